"""Everything that touches a file of cells: read counts and labels, load and simulate data sets."""

from scarce.data.datasets import DATASETS, load
from scarce.data.labels import read_labels
from scarce.data.read import read
from scarce.data.simulate import simulate

__all__ = ["DATASETS", "load", "read", "read_labels", "simulate"]
