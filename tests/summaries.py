"""A run that never happened, complete in every field, for the tests of the report."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from scarce.summary import (
    Cells,
    CodeSummary,
    DataSummary,
    Dots,
    EnrichedSet,
    Expression,
    GeneEffect,
    LabelSummary,
    Marker,
    ModelRun,
    Naming,
    Programme,
    Removed,
    RunSummary,
    Score,
    Stability,
)

TITLES = {"pca": "PCA", "dae": "Deep autoencoder", "bvae": "β-VAE", "bvsc": "β-VSC"}
TYPES = (
    "Naive CD4 T",
    "CD14+ monocyte",
    "Memory CD4 T",
    "B cell",
    "CD8 T",
    "FCGR3A+ monocyte",
    "NK cell",
    "Dendritic cell",
    "Plasmacytoid dendritic cell",
    "Platelet",
)
SEEDS = (1, 2, 3)


def make_summary(
    *,
    n_cells: int = 700,
    types: tuple[str, ...] = TYPES,
    barcode: str = "",
    name: str = "pbmc_10k_filtered.h5ad",
    seeds: tuple[int, ...] = SEEDS,
    titles: dict[str, str] | None = None,
) -> RunSummary:
    """Return the summary of one imaginary run on blobs of cells.

    Parameters
    ----------
    n_cells
        Cells left after quality control; at least one per type.
    types
        Cell types, the most frequent first.
    barcode
        Put before every barcode.
    name
        Name of the input.
    seeds
        Seeds of every model.
    titles
        Models and their names for people; PCA and three autoencoders by default.
    """
    titles = TITLES if titles is None else titles
    generator = np.random.default_rng(7)
    labels = _labels(n_cells, types, generator)
    return RunSummary(
        config={
            "models": list(titles),
            "seeds": list(seeds),
            "n_latent": 10,
            "n_top_genes": 2000,
            "batch_size": 128,
            "beta": 1.5,
            "early_stopping": True,
        },
        data=_data(name, n_cells),
        removed=(
            Removed("cells with fewer than 200 genes", 9, 0),
            Removed("cells with more than 5 % mitochondrial counts", 12, 0),
            Removed("genes seen in fewer than 3 cells", 0, 19_021),
        ),
        labels=LabelSummary(
            source="Louvain clusters of the first 10 principal components, named by marker genes",
            from_pca=True,
            counts={kind: int((labels == kind).sum()) for kind in types},
            naming=(
                Naming(0, n_cells - 5, types[0], types[0], 1.25, types[-1], 0.875, ""),
                Naming(1, 5, "unknown 1", types[-1], 0.125, types[0], 0.0625, "score below 0.3"),
            ),
            stability=(Stability(0.5, 2, 0.96875, 0.9375), Stability(1.2, 4, 0.75, 0.625)),
            recommended=0.5,
        ),
        runs=tuple(
            _fit(model, title, seed, generator) for model, title in titles.items() for seed in seeds
        ),
        scores=tuple(
            _score(model, seed, space, len(types), generator)
            for model in titles
            for seed in seeds
            for space in ("latent", "tsne2d")
        ),
        cells=_cells(labels, types, tuple(titles), barcode, generator),
        environment={
            "scarce": "0.1.0",
            "python": "3.11.7",
            "torch": "2.13.0",
            "processor": "x86_64, 8 cores",
            "threads": "8",
            "precision": "float32",
        },
        warnings=(
            "The reference labels were derived from principal components: every score favours PCA.",
            "A 2-D t-SNE map distorts distances: scores in the latent space are the fairer ones.",
        ),
        markers=tuple(Marker(kind, f"{kind} gene", 9.0, 2.0, 1e-9, 0.9, 0.1) for kind in types),
        dots=_dots(types, generator),
        programmes=tuple(
            _programme(model, latent, types, n_cells)
            for model in titles
            if model in ("bvae", "bvsc")
            for latent in range(3)
        ),
        codes=tuple(
            CodeSummary(model, model == "bvsc", 0.6, 1.5, 0.1, len(seeds), 0.8, 0.25)
            for model in titles
            if model in ("bvae", "bvsc")
        ),
    )


def _programme(model: str, latent: int, types: tuple[str, ...], n_cells: int) -> Programme:
    """Return one of three: a named one, one that was turned round, and one no cell uses."""
    generator = np.random.default_rng([latent, len(model)])
    up = -np.sort(-generator.uniform(0.5, 1, 10)) * (3 - latent)
    idle = latent == 2
    genes = [GeneEffect(f"UP{i}", float(effect), 0.05, 9.0) for i, effect in enumerate(up)]
    falling = [GeneEffect(f"DOWN{i}", float(-e / 2), 0.05, -9.0) for i, e in enumerate(up[:5])]
    return Programme(
        model=model,
        latent=latent,
        name=types[0] if latent == 0 else "",
        opposite=types[-1] if latent == 1 else "",
        sign=-1 if latent == 1 else 1,
        switches=model == "bvsc",
        n_cells=0 if idle else n_cells // 4,
        share=0.0 if idle else 0.25,
        one_sided=np.nan if idle else 0.9 - 0.6 * latent,
        undecided=0.125,
        agreement=np.nan if idle else 0.75,
        hoyer=np.nan if idle else 0.5,
        reproducibility=0.0 if idle else 0.9 - 0.3 * latent,
        cosine=0.5,
        up=() if idle else tuple(genes),
        down=() if idle else tuple(falling),
        sets=(EnrichedSet("B CELL", "up", 7, 4, 0.91, 1e-5),) if latent == 0 else (),
    )


def _dots(types: tuple[str, ...], generator: np.random.Generator) -> Dots:
    shape = (len(types), len(types))
    genes = tuple(f"{kind} gene" for kind in types)
    return Dots(types, genes, generator.uniform(0, 1, shape), generator.uniform(0, 4, shape))


def _labels(
    n_cells: int, types: tuple[str, ...], generator: np.random.Generator
) -> NDArray[np.str_]:
    """Return shuffled labels whose frequencies fall from the first type to the last."""
    shares = 0.78 ** np.arange(len(types))
    extra = generator.choice(len(types), n_cells - len(types), p=shares / shares.sum())
    counts = np.sort(1 + np.bincount(extra, minlength=len(types)))[::-1]
    labels = np.repeat(np.array(types), counts)
    return generator.permutation(labels)


def _data(name: str, n_cells: int) -> DataSummary:
    return DataSummary(
        name=name,
        format="AnnData (h5ad)",
        sha256="9f2b" * 16,
        n_cells_read=n_cells + 21,
        n_genes_read=32_738,
        n_cells=n_cells,
        n_genes=13_717,
        n_genes_modelled=2_000,
        density=0.0612,
        notes=(
            "Counts were read from layer 'counts'; X holds normalised values.",
            "Mitochondrial genes were recognised by the prefix 'MT-'.",
        ),
    )


def _fit(model: str, title: str, seed: int, generator: np.random.Generator) -> ModelRun:
    if model == "pca":
        return ModelRun(model, title, seed, 0.4, 0, 20_000, "", {"n_latent": 10}, peak_mb=412.0)
    n_epochs = int(generator.integers(50, 80))
    epochs = np.arange(n_epochs)
    train = 420 + 260 * np.exp(-epochs / 9) + generator.normal(0, 1.5, n_epochs)
    held_out = 452 + 240 * np.exp(-epochs / 8) + 0.18 * epochs + generator.normal(0, 2, n_epochs)
    return ModelRun(
        model=model,
        title=title,
        seed=seed,
        seconds=float(generator.uniform(8, 20)),
        epochs=n_epochs,
        n_parameters=1_294_618,
        path="sparse" if model != "dae" else "dense",
        settings={
            "n_latent": 10,
            "n_hidden": (128, 64),
            "learning_rate": 1e-3,
            "network": {"likelihood": "squared_error" if model == "bvsc" else "gaussian"},
            **({"beta": 1.5} if model != "dae" else {}),
            **({"alpha": 0.2} if model == "bvsc" else {}),
        },
        history={"train": tuple(train.tolist()), "held_out": tuple(held_out.tolist())},
        peak_mb=1200.0 + seed,
    )


def _score(
    model: str, seed: int, space: str, n_clusters: int, generator: np.random.Generator
) -> Score:
    level = {"pca": 0.80, "dae": 0.72, "bvae": 0.78}.get(model, 0.81)
    nmi, ari, homogeneity, completeness, silhouette = generator.normal(
        level - 0.03 * (space == "tsne2d") - np.array([0, 0.12, -0.02, 0.01, 0.42]), 0.01
    )
    return Score(model, seed, space, n_clusters, nmi, ari, homogeneity, completeness, silhouette)


def _cells(
    labels: NDArray[np.str_],
    types: tuple[str, ...],
    models: tuple[str, ...],
    barcode: str,
    generator: np.random.Generator,
) -> Cells:
    """Return blobs in two and three dimensions, and clusters that split and merge some types."""
    kind = np.array([types.index(label) for label in labels])
    letters = generator.choice(list("ACGT"), (len(labels), 16))
    flat, solid, clusters, middles = {}, {}, {}, {}
    for model in models:
        flat[model] = _blobs(kind, 2, generator)
        solid[model] = _blobs(kind, 3, generator)
        seeds = flat[model][generator.choice(len(kind), len(types), replace=False)]
        clusters[model], middles[model] = _lloyd(flat[model], seeds)
    # A generator of their own, so that the numbers above stay what they were.
    return Cells(
        barcodes=np.array([f"{barcode}{''.join(row)}-1" for row in letters]),
        labels=labels,
        tsne2d=flat,
        tsne3d=solid,
        kmeans=clusters,
        centroids=middles,
        **_details(kind, types, models, np.random.default_rng(8)),
    )


def _details(
    kind: NDArray[np.int64],
    types: tuple[str, ...],
    models: tuple[str, ...],
    generator: np.random.Generator,
) -> dict[str, object]:
    """Return what the explorer colours by; the first genes are high in one type each."""
    n_cells, n_types = len(kind), len(types)
    expected = np.full((n_cells, n_types + 10), 0.4)
    expected[np.arange(n_cells), kind] = 6
    counts = csc_matrix(generator.poisson(expected).astype(np.int32))
    counts.sort_indices()
    codes = {
        model: np.eye(n_types)[kind][:, :4] + generator.normal(0, 0.1, (n_cells, min(4, n_types)))
        for model in models
    }
    return {
        "leiden": dict.fromkeys(models, kind),
        "latents": codes,
        "inclusion": {m: generator.uniform(0, 1, codes[m].shape) for m in models if m == "bvsc"},
        "quality": {
            "counts": counts.toarray().sum(axis=1) + 500.0,
            "genes": counts.getnnz(axis=1) + 300.0,
            "mitochondrial %": generator.uniform(0, 5, n_cells),
        },
        "expression": Expression(
            np.array([f"{name} gene" for name in types] + [f"GENE{i}" for i in range(10)]), counts
        ),
    }


def _blobs(
    kind: NDArray[np.int64], n_dimensions: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    centres = generator.uniform(-40, 40, (kind.max() + 1, n_dimensions))
    spread = generator.uniform(2.5, 6, (kind.max() + 1, n_dimensions))
    return centres[kind] + spread[kind] * generator.normal(size=(len(kind), n_dimensions))


def _lloyd(
    points: NDArray[np.float64], centroids: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return a few rounds of k-means; an empty cluster keeps its centroid."""
    for _ in range(10):
        squared = ((points[:, None] - centroids) ** 2).sum(axis=2)
        nearest = squared.argmin(axis=1)
        centroids = np.array(
            [
                points[nearest == k].mean(axis=0) if (nearest == k).any() else centroid
                for k, centroid in enumerate(centroids)
            ]
        )
    return nearest, centroids


def blanks(names: Iterable[str]) -> dict[str, Figure]:
    """Return empty figures of these names, for tests of the words around them."""
    return {name: Figure((1, 1)) for name in names}


def many_cells(n_cells: int, n_genes: int) -> RunSummary:
    """Return a summary without figures, of so many cells and genes a tenth of them has."""
    generator = np.random.default_rng(3)
    summary = make_summary(n_cells=n_cells, titles={"bvae": "β-VAE"}, seeds=(1,))
    nnz = n_cells // 10
    rows = [np.sort(generator.choice(n_cells, nnz, replace=False)) for _ in range(n_genes)]
    counts = csc_matrix(
        (
            generator.integers(1, 4, nnz * n_genes).astype(np.int32),
            np.concatenate(rows),
            np.arange(n_genes + 1) * nnz,
        ),
        shape=(n_cells, n_genes),
    )
    kept = summary.cells.expression
    assert kept is not None
    names = np.array([f"GENE{i}" for i in range(n_genes)])
    expression = replace(kept, genes=names, counts=counts)
    cells = replace(summary.cells, expression=expression)
    return replace(summary, cells=cells, scores=())
