"""The real data that tests may read but the project never ships."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"
PBMC3K = SHARED / "pbmc3k"
PBMC3K_LABELS = SHARED / "pbmc3k_seurat_labels.csv"
MIXOLOGY = SHARED / "labelled" / "mixology_3cl.h5ad"

needs_pbmc3k = pytest.mark.skipif(
    not PBMC3K.is_dir(), reason=f"needs the PBMC3k counts in {PBMC3K}"
)
needs_mixology = pytest.mark.skipif(not MIXOLOGY.is_file(), reason=f"needs the cells in {MIXOLOGY}")
