"""Reference clusters for data without labels."""

import warnings

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix

from scarce.preprocess import pca

__all__ = ["leiden_clusters"]


def leiden_clusters(adata: AnnData, *, n_components: int = 10, seed: int = 0) -> pd.Series:
    """Cluster cells by the Leiden algorithm on a neighbour graph of principal components.

    Parameters
    ----------
    adata
        Log-normalised ``X`` and ``var["highly_variable"]``. Not modified.
    n_components
        Principal components the graph is built on.
    seed
        Of neighbour search and optimiser.

    Returns
    -------
    Cluster of each cell, ``"0"`` the largest, indexed by cell name. Such labels favour PCA
    in any comparison.
    """
    import scanpy as sc

    genes = adata.var["highly_variable"].to_numpy()
    graph = AnnData(obsm={"X_pca": pca(csr_matrix(adata.X[:, genes]), n_components, seed=seed)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.neighbors(
            graph, n_neighbors=min(20, adata.n_obs - 1), use_rep="X_pca", random_state=seed
        )
        sc.tl.leiden(graph, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
    return pd.Series(np.asarray(graph.obs["leiden"], dtype=str), index=adata.obs_names)
