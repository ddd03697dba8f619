"""Reference clusters for cells without labels, and their names from marker genes."""

from scarce.annotate.markers import dots, marker_genes
from scarce.annotate.naming import PBMC, Markers, name_clusters, read_markers
from scarce.annotate.reference import RESOLUTION, Annotation, annotate

__all__ = [
    "PBMC",
    "RESOLUTION",
    "Annotation",
    "Markers",
    "annotate",
    "dots",
    "marker_genes",
    "name_clusters",
    "read_markers",
]
