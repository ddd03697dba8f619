"""Modularity reached per second: how the optimiser of the reference clusters was chosen.

    python -m benchmarks.optimisers path/to/10x_folder --starts 60

Prints, for each optimiser of the graph of shared neighbours: processor time per start, median and
largest modularity, and the share of starts with the most common number of clusters. leidenalg is
compared where it is installed; the package does not need it.
"""

import argparse
import random
import time
from collections.abc import Callable
from importlib.util import find_spec

import igraph
import numpy as np
from scipy.sparse import csr_matrix

from scarce.annotate.communities import communities, to_graph
from scarce.annotate.components import components
from scarce.annotate.graph import neighbours, shared_neighbours
from scarce.data import load
from scarce.preprocess import Thresholds, normalise, quality_control, variable_genes

RESOLUTION = 0.5


def main() -> None:
    """Print a line for each optimiser."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="data set name or path")
    parser.add_argument("--starts", type=int, default=60)
    options = parser.parse_args()
    adata = load(options.data)
    if not adata.uns["scarce"]["source"]["filtered"]:
        adata, _ = quality_control(adata, Thresholds())
    normalise(adata)
    variable_genes(adata, 2000)
    points = components(csr_matrix(adata.X[:, adata.var["highly_variable"].to_numpy()]))
    graph = to_graph(shared_neighbours(neighbours(points)))
    print(f"{adata.n_obs:,} cells, {graph.ecount():,} edges, resolution {RESOLUTION}")
    print(f"{'optimiser':28} ms per start   median  largest  usual number of clusters")
    for name, optimise in optimisers(graph).items():
        measure(name, graph, optimise, options.starts)
    start = time.process_time()
    best = [communities(graph, resolution=RESOLUTION, seed=s).modularity for s in range(5)]
    seconds = (time.process_time() - start) / 5
    print(f"ours, best of 30, five seeds: {min(best):.5f} to {max(best):.5f}, {seconds:.1f} s each")


def optimisers(graph: igraph.Graph) -> dict[str, Callable[[int], list[int]]]:
    """Each optimiser as a function of its seed."""

    def leiden(n_iterations: int) -> Callable[[int], list[int]]:
        options = {"weights": "weight", "resolution": RESOLUTION, "n_iterations": n_iterations}
        return lambda seed: graph.community_leiden("modularity", **options).membership

    found = {
        "igraph Leiden, 1 round": leiden(1),
        "igraph Leiden, 2 rounds": leiden(2),
        "igraph Leiden, to the top": leiden(-1),
        "igraph Louvain": lambda seed: (
            graph.community_multilevel(weights="weight", resolution=RESOLUTION).membership
        ),
    }
    if find_spec("leidenalg"):
        import leidenalg

        def other(n_iterations: int) -> Callable[[int], list[int]]:
            return lambda seed: (
                leidenalg.find_partition(
                    graph,
                    leidenalg.RBConfigurationVertexPartition,
                    weights="weight",
                    resolution_parameter=RESOLUTION,
                    seed=seed,
                    n_iterations=n_iterations,
                ).membership
            )

        found |= {"leidenalg, 2 rounds": other(2), "leidenalg, to the top": other(-1)}
    return found


def measure(
    name: str, graph: igraph.Graph, optimise: Callable[[int], list[int]], n_starts: int
) -> None:
    """Run one optimiser from every start and print what it reached."""
    start, found = time.process_time(), []
    for seed in range(n_starts):
        igraph.set_random_number_generator(random.Random(seed))
        found.append(optimise(seed))
    milliseconds = 1000 * (time.process_time() - start) / n_starts
    values = [graph.modularity(m, weights="weight", resolution=RESOLUTION) for m in found]
    sizes = np.bincount([len(set(membership)) for membership in found])
    usual = f"{sizes.argmax()} ({100 * sizes.max() / n_starts:.0f} %)"
    reached = f"{np.median(values):8.4f} {max(values):8.5f}"
    print(f"{name:28} {milliseconds:12.0f} {reached}  {usual}", flush=True)


if __name__ == "__main__":
    main()
