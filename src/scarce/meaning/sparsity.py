r"""How sparse a vector is, as one number.

.. math:: \mathrm{Hoyer}(v) = \frac{\sqrt n - \|v\|_1 / \|v\|_2}{\sqrt n - 1}

is 1 for a single nonzero entry and 0 where all are equal.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["hoyer"]


def hoyer(v: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return Hoyer's sparsity of each row; NaN for rows of zeros, or of a single number.

    References
    ----------
    Hoyer, "Non-negative matrix factorization with sparseness constraints", JMLR 2004.

    Examples
    --------
    >>> hoyer(np.array([[0.0, 3.0, 0.0, 0.0], [1.0, 1.0, -1.0, 1.0]]))
    array([1., 0.])
    """
    root = np.sqrt(v.shape[-1])
    sizes = np.abs(v).sum(axis=-1, dtype=np.float64)
    norms = np.sqrt(np.square(v, dtype=np.float64).sum(axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = (root - sizes / norms) / (root - 1)
    return found
