"""Counts as a model reads them."""

import numpy as np
import torch
from scipy.sparse import csr_matrix

from scarce.sparse.batches import Batches, Matrix


def batch_of(
    counts: np.ndarray, path: str = "sparse", dtype: torch.dtype = torch.float64
) -> Matrix:
    """Return all cells as one batch, on either path of arithmetic."""
    (batch,) = Batches(
        csr_matrix(counts.astype(float)), batch_size=len(counts), path=path, dtype=dtype
    ).ordered()
    return batch.x
