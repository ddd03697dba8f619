"""One training step of the report's model, ours against dense rivals, in interleaved pairs.

    python -m benchmarks.train_step --data path/to/pbmc3k [--json [FILE]]

Every row is a process of its own that takes a step of ours and one of the rival in turn, batch
assembly included, and reports medians and their ratio (rival / ours; above 1 we are faster):

- dense: the same autoencoder as a plain PyTorch loop, see `benchmarks.reference`;
- dense_onednn: the same with oneDNN's float32 products;
- scvi: scvi-tools' SCVI with its defaults against our beta-VAE, where scvi-tools is installed.

`peak_rss_mb` is the process's peak after our steps alone, `rival_peak_rss_mb` its peak at the
end. `bound_ms` is what our step would take if its flops ran at the rate of a large product and
its bytes at the rate of a copy, both measured in the same process.
"""

import argparse
import importlib.util
import json
import multiprocessing as mp
import resource
import statistics
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import torch
from anndata import AnnData
from scipy.sparse import csr_matrix, load_npz, save_npz

from benchmarks.in_turn import WIDTH, Step, against_scvi, our_step, seconds
from benchmarks.reference import DenseCells, adam, paper_model, plain, step
from scarce import check
from scarce.data import load
from scarce.data.simulate import simulate
from scarce.numerics import tuned
from scarce.preprocess import Thresholds, normalise, quality_control

BATCHES = (256, 1024, 4096)
RIVALS = ("dense", "dense_onednn", "scvi")
SKIPPED = 3
"""First pairs, which are not timed."""


def main() -> None:
    """Print a table, or JSON rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pbmc3k", help="10x folder of PBMC3k")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="default: stdout")
    parser.add_argument("--rivals", default=",".join(RIVALS))
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--pairs", type=int, default=30, help="pairs of steps a row")
    parser.add_argument("--cells", type=int, default=100_000, help="simulated; 0 for none")
    options = parser.parse_args()
    rivals = [r for r in options.rivals.split(",") if r != "scvi" or _has_scvi()]
    batches = [int(b) for b in options.batches.split(",")]
    table = sys.stderr if options.json == "-" else sys.stdout
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for data, path in _data(options, Path(folder)):
            for rival in rivals:
                for batch in batches:
                    rows.append(_apart(data, path, batch, rival, options.pairs))
                    print(_line(rows[-1], header=len(rows) == 1), file=table, flush=True)
    if options.json:
        text = json.dumps(rows, indent=1)
        print(text) if options.json == "-" else Path(options.json).write_text(text + "\n")


def _has_scvi() -> bool:
    if importlib.util.find_spec("scvi"):
        return True
    print("scvi-tools is not installed (extra 'bench'): its rows are left out.", file=sys.stderr)
    return False


def _data(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    """Counts and log-normalised expression of each data set, as files the processes share."""
    yield (
        "pbmc3k",
        _prepare(quality_control(load(options.data), Thresholds())[0], folder / "pbmc3k"),
    )
    if options.cells:
        adata = simulate(options.cells, 20_000, n_types=10, n_programmes=16, density=0.03)
        yield "simulated", _prepare(adata, folder / "simulated")


def _prepare(adata: AnnData, folder: Path) -> Path:
    folder.mkdir()
    normalise(adata)
    save_npz(folder / "x.npz", check.log_normalised(adata.X), compressed=False)
    save_npz(folder / "counts.npz", csr_matrix(adata.layers["counts"]), compressed=False)
    return folder


def _apart(data: str, path: Path, batch: int, rival: str, pairs: int) -> dict[str, object]:
    with mp.get_context("spawn").Pool(1) as process:
        return process.apply(_row, (data, path, batch, rival, pairs))


def _row(data: str, path: Path, batch: int, rival: str, pairs: int) -> dict[str, object]:
    """Measure one row; runs in a process of its own."""
    x = load_npz(path / "x.npz")
    module = paper_model("bvae" if rival == "scvi" else "dae", x.shape[1])
    ours = our_step(module, adam(module), x, batch)
    for _ in range(5):
        ours()
    peak = _peak_mb()
    if rival == "scvi":
        times = against_scvi(ours, load_npz(path / "counts.npz"), batch, pairs, skipped=SKIPPED)
    else:
        times = _in_turn(ours, _dense_step(x, batch, onednn=rival == "dense_onednn"), pairs)
    ours_ms, rival_ms = (1e3 * statistics.median(t) for t in zip(*times, strict=True))
    n_batches = -(-x.shape[0] // batch)
    return {
        "data": data,
        "batch": batch,
        "rival": rival,
        "ours_ms": round(ours_ms, 3),
        "rival_ms": round(rival_ms, 3),
        "ratio": round(statistics.median(r / o for o, r in times), 3),
        "peak_rss_mb": round(peak),
        "rival_peak_rss_mb": round(_peak_mb()),
        "ours_epoch_ms": round(ours_ms * n_batches, 1),
        "rival_epoch_ms": round(rival_ms * n_batches, 1),
        "bound_ms": round(_bound_ms(x, min(batch, x.shape[0])), 2),
        "threads": torch.get_num_threads(),
    }


def _dense_step(x: csr_matrix, batch: int, *, onednn: bool) -> Step:
    module = plain(paper_model("dae", x.shape[1]))
    optimiser, generator = adam(module), torch.Generator().manual_seed(0)
    cells = DenseCells(x, batch)
    batches = chain.from_iterable(cells.epoch() for _ in repeat(None))
    precision = torch.backends.mkldnn.matmul

    def take() -> object:
        before = precision.fp32_precision
        precision.fp32_precision = "bf16" if onednn else before
        loss = step(module, optimiser, next(batches), generator)
        precision.fp32_precision = before
        return loss

    return take


def _in_turn(ours: Step, rival: Step, pairs: int) -> list[tuple[float, float]]:
    for _ in range(SKIPPED):
        rival(), ours()
    return [(seconds(ours), seconds(rival)) for _ in range(pairs)]


def _bound_ms(x: csr_matrix, batch: int) -> float:
    """Flops at the rate of a large product plus, for the optimiser, bytes at that of a copy."""
    n_genes = x.shape[1]
    entries = x.nnz / x.shape[0] * batch
    products = 4.0 * (batch + n_genes) * (WIDTH + 1) ** 2
    sparse = 4.0 * entries * (2 * WIDTH + 1)
    adam_bytes = 7 * 4 * n_genes * (2 * WIDTH + 1)
    with tuned(1e12):
        a, b = torch.rand(2048, 2048), torch.empty(2**26)
        flops = 2 * 2048.0**3 / min(seconds(lambda: a @ a) for _ in range(5))
        bandwidth = 2 * 4 * len(b) / min(seconds(b.clone) for _ in range(5))
    return 1e3 * ((products + sparse) / flops + adam_bytes / bandwidth)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _line(row: dict[str, object], *, header: bool) -> str:
    widths = {name: max(len(name), 12) for name in row}
    line = "  ".join(f"{row[name]!s:>{width}}" for name, width in widths.items())
    names = "  ".join(f"{name:>{width}}" for name, width in widths.items())
    return f"{names}\n{line}" if header else line


if __name__ == "__main__":
    main()
