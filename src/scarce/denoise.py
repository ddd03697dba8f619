"""Expected expression of many cells, written to disk without ever being in memory."""

from pathlib import Path

import h5py
import pandas as pd
from anndata import AnnData

from scarce.data import write
from scarce.errors import InputError
from scarce.estimators import Ensemble, Estimator, load_model

__all__ = ["denoise", "read_model"]

_LAYER = "denoised"
_CHUNK = 2**16
"""Entries of one chunk on disk: 256 kB of float32."""


def denoise(
    estimator: Estimator | Ensemble, adata: AnnData, path: Path, *, layer: str | None = None
) -> None:
    """Write cells with the expression the model expects of them.

    Parameters
    ----------
    estimator
        Fitted model, or several side by side.
    adata
        Log-normalised expression; genes are matched by name.
    path
        An ``.h5ad`` file to write, complete or not at all: the cells, the genes of the fit,
        their measured expression in ``X`` and the expected one in ``layers["denoised"]``,
        float32.
    layer
        Layer of the AnnData to use instead of ``X``.

    Raises
    ------
    InputError
        If the name does not end in ``.h5ad``, or the cells do not suit the model.

    Notes
    -----
    Memory is that of the cells and of one block of expected expression, see
    `Estimator.reconstruct_blocks`; disk space is 4 bytes times cells times genes.
    """
    path = Path(path)
    if path.suffix != ".h5ad":
        raise InputError(f"the output must be named .h5ad; found {path.name!r}.")
    x = estimator.expression(adata, layer=layer)
    if estimator.var_names_ is None:
        raise InputError("the model must know its genes by name; it was fitted on a bare matrix.")
    small = AnnData(x, obs=adata.obs, var=pd.DataFrame(index=pd.Index(estimator.var_names_)))
    with write.atomic_path(path) as temporary:
        small.write_h5ad(temporary, compression="gzip")
        with h5py.File(temporary, "r+") as file:
            expected = _new_layer(file, small.shape)
            start = 0
            for block in estimator.reconstruct_blocks(adata, layer=layer):
                expected[start : start + len(block)] = block
                start += len(block)


def read_model(path: str | Path) -> Estimator | Ensemble:
    """Read a model from its folder, or from the folder of a run that has only one.

    Raises
    ------
    InputError
        If there is no model, or more than one.
    """
    path = Path(path)
    if (path / "model.json").is_file() or not (path / "models").is_dir():
        return load_model(path)
    found = sorted(folder for folder in (path / "models").iterdir() if folder.is_dir())
    if len(found) != 1:
        names = ", ".join(str(folder) for folder in found) or "none"
        raise InputError(f"one model must be named; {path} has {names}. Pass one of them.")
    return load_model(found[0])


def _new_layer(file: h5py.File, shape: tuple[int, int]) -> h5py.Dataset:
    """Make room for the layer, as AnnData stores a dense array."""
    rows = max(1, min(shape[0], _CHUNK // shape[1]))
    layer = file.create_dataset(f"layers/{_LAYER}", shape, dtype="f4", chunks=(rows, shape[1]))
    layer.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    return layer
