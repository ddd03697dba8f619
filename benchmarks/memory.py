"""Peak memory of a fit on simulated cells, beside the size of their counts.

    python -m benchmarks.memory --cells 200000

One process: simulates, takes log1p in place of the counts, fits one epoch of the report's
autoencoder and embeds the cells. Peak memory is that of the process while it fits; the target
is 1.5 times the CSR matrix plus 1 GB.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix

from scarce.data.simulate import simulate
from scarce.memory import peak_memory
from scarce.presets import PRESETS, build


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--genes", type=int, default=20_000)
    options = parser.parse_args()
    adata = simulate(options.cells, options.genes, n_types=10, n_programmes=16, density=0.03)
    x = csr_matrix(adata.X)
    del adata
    np.log1p(x.data, out=x.data)
    settings = PRESETS["paper"]
    model = build("dae", replace(settings, training=replace(settings.training, epochs=1)), seed=0)
    size = (x.data.nbytes + x.indices.nbytes + x.indptr.nbytes) / 1e6
    with peak_memory() as peak:
        start = time.perf_counter()
        model.fit(x).transform(x)
        seconds = time.perf_counter() - start
    print(
        f"{x.shape[0]:,} cells x {x.shape[1]:,} genes, {x.nnz:,} nonzeros; CSR {size:,.0f} MB; "
        f"peak while fitting {peak.megabytes:,.0f} MB, target {1.5 * size + 1000:,.0f} MB; "
        f"dense {4e-6 * x.shape[0] * x.shape[1]:,.0f} MB; {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
