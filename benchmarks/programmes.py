"""Are programmes found, and found again: planted ones, and those of PBMC3k over seeds.

    python -m benchmarks.programmes --data path/to/10x_folder --seeds 10

Planted: simulated cells (2,000 x 1,000 genes, 8 programmes, 10 types), by each model's effects
on expression and by its code; cosine and correlation of the best match, mean over programmes.
PBMC3k: share of LinearVSC's programmes that other seeds find again, and their genes. There the
rate falls and half of the inputs are hidden, so that fits end closer to each other.
"""

import argparse

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA

import scarce
from scarce.data import load
from scarce.data.simulate import simulate
from scarce.estimators import BetaVAE, BetaVSC, Estimator, LinearVSC
from scarce.models.parts import Network
from scarce.preprocess import Thresholds, normalise, quality_control, variable_genes
from scarce.train import TrainConfig

N_LATENT = 16
MARKERS = {
    "B": ("MS4A1", "CD79A", "CD79B"),
    "NK": ("GNLY", "NKG7", "GZMB"),
    "CD14+ monocyte": ("CD14", "LYZ", "S100A8"),
    "FCGR3A+ monocyte": ("FCGR3A", "MS4A7", "LST1"),
    "dendritic": ("FCER1A", "CST3", "CLEC10A", "LILRA4", "CLEC4C"),
    "platelet": ("PPBP", "PF4", "GNG11"),
}
"""Of Seurat's PBMC3k tutorial, with usual companions; the last two of plasmacytoid ones."""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="PBMC3k, by path or name; left out if not given")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--latent", type=int, default=12, help="programmes on PBMC3k")
    options = parser.parse_args()
    planted(min(3, options.seeds))
    if options.data:
        of_blood(options.data, options.latent, options.seeds)


def planted(n_seeds: int) -> None:
    """Print how well planted effects and activities are matched."""
    print("planted: seed, model, cosine of effects, correlation of activity; means of 8 programmes")
    for seed in range(n_seeds):
        adata = simulate(2000, 1000, n_types=10, n_programmes=8, seed=seed)
        normalise(adata)
        activity = adata.obsm["programme_activity"]
        known = np.column_stack([activity, np.ones(adata.n_obs)])
        effects = np.linalg.lstsq(known, adata.X.toarray(), rcond=None)[0][:-1].T
        for name, (found, code) in _methods(adata, seed).items():
            cosine = _matched(_cosines(effects, found))
            correlation = _matched(np.corrcoef(activity.T, code.T)[:8, 8:])
            print(f"{seed} {name:10} {cosine:.3f} {correlation:.3f}", flush=True)


def _methods(adata: AnnData, seed: int) -> dict[str, tuple[NDArray, NDArray]]:
    """Effects on genes, shape (n_genes, n_latent), and code of each method."""
    pca = PCA(N_LATENT, random_state=seed)
    code = pca.fit_transform(adata.X.toarray())
    found: dict[str, tuple[NDArray, NDArray]] = {"PCA": (pca.components_.T, code)}
    models: dict[str, Estimator] = {
        "β-VAE": BetaVAE(n_latent=N_LATENT, seed=seed),
        "β-VSC": BetaVSC(n_latent=N_LATENT, seed=seed),
        "LinearVSC": LinearVSC(n_latent=N_LATENT, seed=seed),
    }
    for name, model in models.items():
        code = model.fit_transform(adata)
        found[name] = (scarce.programmes(model, adata).effect, code)
    return found


def of_blood(data: str, n_latent: int, n_seeds: int) -> None:
    """Print stability over seeds, the first seed's genes, and whose markers they are."""
    adata, _ = quality_control(load(data), Thresholds())
    normalise(adata)
    variable_genes(adata, 2000)
    adata = adata[:, adata.var["highly_variable"].to_numpy()].copy()
    hidden, falling = Network(input_dropout=0.5), TrainConfig(schedule="cosine")
    models = [
        LinearVSC(n_latent=n_latent, network=hidden, training=falling, seed=seed).fit(adata)
        for seed in range(n_seeds)
    ]
    found = scarce.stability([model.transform(adata) for model in models]).latents
    print(f"PBMC3k: share of {n_latent} programmes found again (matched correlation of at least")
    print(f".8, median over {n_seeds - 1} seeds): {(found['reproducibility'] >= 0.8).mean():.2f}")
    programmes = models[0].programmes_
    variance = models[0].module_.body.likelihood.log_variance.detach().exp().numpy()
    in_use = models[0].inclusion_probabilities(adata).mean(0)
    for unit in np.argsort(-in_use):
        order = np.argsort(-programmes[:, unit] / variance**0.25)
        genes = [str(adata.var_names[gene]) for gene in order[:10]]
        types = [name for name, markers in MARKERS.items() if len({*markers} & {*genes}) > 1]
        print(f"{in_use[unit]:5.0%} of cells: {' '.join(genes)}  [{', '.join(types)}]")


def _cosines(a: NDArray, b: NDArray) -> NDArray:
    norms = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)
    return a.T @ b / np.maximum(norms, 1e-12)


def _matched(similarity: NDArray) -> float:
    similarity = np.abs(np.nan_to_num(similarity))
    return float(similarity[linear_sum_assignment(-similarity)].mean())


if __name__ == "__main__":
    main()
