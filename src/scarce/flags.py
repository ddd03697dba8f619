"""What may be typed: every command, its options and what ``--help`` says of them.

An option that was not given is None wherever a config file or a preset may give it. An option of
several commands has one function, which is told the words that differ.
"""

import argparse
from pathlib import Path
from typing import TypeAlias

from scarce import __version__

__all__ = ["parser"]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001
"""What `add_subparsers` returns; argparse has no public name for it."""


def parser() -> argparse.ArgumentParser:
    """Return the parser; it puts the name of the command into ``command``."""
    scarce = argparse.ArgumentParser(
        prog="scarce", description="Single-cell autoencoders: train, map, cluster, compare."
    )
    scarce.add_argument("--version", action="version", version=f"scarce {__version__}")
    commands = scarce.add_subparsers(required=True, dest="command", metavar="COMMAND")
    _add_run(commands)
    _add_annotate(commands)
    _add_info(commands)
    _add_benchmark(commands)
    _add_tune(commands)
    _add_revisit(commands, "report", "write the report of an earlier run anew")
    _add_revisit(commands, "view", "open the report of a run in the browser")
    _add_figures(commands)
    _add_denoise(commands)
    return scarce


def _add_run(commands: Commands) -> None:
    """From counts to a report."""
    run = commands.add_parser(
        "run",
        help="from raw counts to trained models, maps, scores and a report",
        description="Train the models on raw counts; draw, cluster and score their codes.",
    )
    _add_data(run)
    _add_experiment(run)
    _add_out(run, "scarce-run")
    _add_force(run, "an earlier run in DIR")
    _add_quiet(run)


def _add_annotate(commands: Commands) -> None:
    """Labels for cells without."""
    annotate = commands.add_parser(
        "annotate",
        help="reference clusters with names from marker genes, for data without labels",
        description="Cluster cells as Seurat's tutorial on PBMCs does, and name the clusters.",
    )
    _add_data(annotate)
    annotate.add_argument(
        "-o",
        "--output",
        type=Path,
        default="labels.csv",
        metavar="FILE",
        help="barcode, cluster and cell type (default: %(default)s); markers.csv, naming.csv and "
        "resolutions.csv are written beside it",
    )
    annotate.add_argument(
        "--markers",
        type=Path,
        metavar="FILE",
        help="CSV or GMT of cell types and their genes (default: human blood)",
    )
    annotate.add_argument(
        "--resolution",
        type=float,
        metavar="R",
        help="more gives more clusters (default: 0.5, and a sweep that recommends one)",
    )
    _add_seed(annotate, "random seed")
    _add_filters(annotate)
    _add_force(annotate, "files that exist")
    _add_quiet(annotate)
    annotate.set_defaults(config=None)


def _add_info(commands: Commands) -> None:
    """What a run would do."""
    info = commands.add_parser(
        "info",
        help="what a file holds and what a run would do; trains nothing",
        description="Read the data and say what a run with these options would do.",
    )
    _add_data(info)
    _add_experiment(info)


def _add_benchmark(commands: Commands) -> None:
    """Models against each other and against baselines."""
    benchmark = commands.add_parser(
        "benchmark",
        help="compare models and baselines on labelled data, over seeds, with intervals",
        description="Compare models with PCA and other baselines on labelled data. The same "
        "command again runs only what is missing.",
    )
    _add_models(benchmark, "dae,bvae,bvsc,lvsc,vasc,ensemble,scvi,ldvae")
    benchmark.add_argument("--presets", metavar="LIST", help="default,paper (default: default)")
    _add_seeds(benchmark, 5)
    benchmark.add_argument(
        "--circular", metavar="LIST", help="data whose labels come from principal components"
    )
    benchmark.add_argument(
        "--floor", type=float, metavar="X", help="smaller differences are ties (default: 0.02)"
    )
    _add_latent(benchmark)
    _add_covariates(benchmark)
    _add_likelihood(benchmark)
    _add_study(benchmark, "scarce-benchmark")


def _add_tune(commands: Commands) -> None:
    """A search of settings."""
    tune = commands.add_parser(
        "tune",
        help="search a small grid of settings by held-out ELBO, without labels",
        description="Search settings by the ELBO of cells kept from the fit: every candidate "
        "gets a few epochs, the best third three times as many, and so on.",
    )
    tune.add_argument("--model", help="bvae or bvsc (default: bvae)")
    _add_preset(tune, "what the other settings are (default: default)")
    tune.add_argument(
        "--vary",
        action="append",
        required=True,
        metavar="OPTION=X,Y",
        help="values of latent, beta, alpha, lr or batch_size; once for each option",
    )
    _add_seeds(tune, 2)
    _add_study(tune, "scarce-tune")


def _add_revisit(commands: Commands, name: str, words: str) -> argparse.ArgumentParser:
    """Add a command for a run that was made before."""
    revisit = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
    revisit.add_argument("run", type=Path, metavar="RUN_DIR", help="folder scarce run wrote")
    return revisit


def _add_figures(commands: Commands) -> None:
    """Figures for print."""
    words = "write figures of a run for print: PNG of 300 dpi and SVG"
    figures = _add_revisit(commands, "figures", words)
    figures.add_argument(
        "--only",
        default="",
        metavar="LIST",
        help="names such as map_bvae,scores or beginnings such as kmeans (default: all)",
    )
    _add_out(figures, None, "(default: RUN_DIR/figures)")


def _add_denoise(commands: Commands) -> None:
    """Expected expression from a trained model."""
    denoise = commands.add_parser(
        "denoise",
        help="expected expression of cells under a trained model, as a layer on disk",
        description="Write cells with the expression a trained model expects of them, in blocks: "
        "the whole table is never in memory.",
    )
    denoise.add_argument(
        "model",
        type=Path,
        metavar="MODEL_DIR",
        help="folder of a model such as scarce-run/models/bvae, or of a run with only one",
    )
    _add_data(denoise)
    _add_out(denoise, "denoised.h5ad", metavar="FILE")
    _add_force(denoise, "a file that exists")


def _add_experiment(command: argparse.ArgumentParser) -> None:
    """Options of a run that a config file may give as well."""
    command.add_argument("--config", type=Path, metavar="FILE", help="options as TOML; flags win")
    command.add_argument(
        "--labels",
        metavar="FILE|COLUMN",
        help="known cell types: a table by barcode or a column of the cell table "
        "(default: those of scarce annotate, which derive from PCA)",
    )
    _add_covariates(command)
    _add_preset(command, "default, or paper: the course report's models")
    _add_models(command, "dae,bvae,bvsc,lvsc,vasc,ensemble (default: dae,bvae,bvsc)")
    _add_genes(command, " (default: 2000 most variable; paper: all)")
    _add_latent(command)
    command.add_argument("--beta", type=float, help="weight of the KL divergence")
    command.add_argument(
        "--alpha", type=float, help="prior share of active units in the β-VSC (default: 0.5)"
    )
    _add_epochs(command)
    command.add_argument("--batch-size", type=int, metavar="N", help="cells in a batch")
    command.add_argument("--lr", type=float, help="learning rate")
    _add_likelihood(command)
    command.add_argument(
        "--scaled",
        action="store_const",
        const=True,
        help="model z-scores, at most 10 as Seurat's, not log-normalised expression",
    )
    command.add_argument("--path", help="sparse or dense arithmetic (default: auto, the cheaper)")
    _add_seed(command, "first random seed")
    _add_seeds(command, 1)
    command.add_argument(
        "--gmt", metavar="FILE", help="gene sets to look for in what each latent does to genes"
    )
    _add_filters(command)


def _add_study(command: argparse.ArgumentParser, out: str) -> None:
    """Options of every grid of trials."""
    command.add_argument("data", nargs="+", metavar="DATA", help="as for scarce run")
    command.add_argument(
        "--labels",
        action="append",
        required=True,
        metavar="FILE|COLUMN",
        help="known cell types, by file or column of the cell table: once for all data sets, or "
        "once for each; cells without one are left out",
    )
    _add_where(command)
    _add_genes(command)
    _add_epochs(command)
    _add_seed(command, "first random seed")
    command.add_argument(
        "--unseen", type=float, metavar="SHARE", help="cells kept from every fit (default: 0.1)"
    )
    command.add_argument("--threads", type=int, metavar="N", help="of one trial (default: 1)")
    command.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes (default: 1)"
    )
    command.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, instead")
    _add_out(command, out)
    _add_quiet(command)


def _add_data(command: argparse.ArgumentParser) -> None:
    """One data set."""
    command.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="10x folder or .h5, .h5ad, .csv, .tsv, .loom, .zarr; "
        "or pbmc68k_reduced (default: 700 cells that come along), pbmc3k, simulated",
    )
    _add_where(command, ", for use without network")


def _add_where(command: argparse.ArgumentParser, use: str = "") -> None:
    """Where the counts lie."""
    command.add_argument(
        "--layer", help="layer with the raw counts, of an h5ad, loom or zarr; raw: .raw"
    )
    command.add_argument("--data-dir", type=Path, metavar="DIR", help=f"where pbmc3k lies{use}")


def _add_covariates(command: argparse.ArgumentParser) -> None:
    """Columns of the cell table that decoders are told of."""
    command.add_argument(
        "--batch",
        metavar="COLUMN",
        help="batch of each cell, a column of the cell table: the decoder is told of it, so that "
        "the code need not be",
    )
    command.add_argument(
        "--covariates", metavar="LIST", help="columns of numbers to be treated likewise"
    )


def _add_filters(command: argparse.ArgumentParser) -> None:
    """Quality control."""
    command.add_argument("--min-cells", type=int, metavar="N", help="per gene (default: 3)")
    command.add_argument("--min-genes", type=int, metavar="N", help="per cell (default: 200)")
    command.add_argument("--max-genes", type=float, metavar="N", help="per cell (default: 2500)")
    command.add_argument("--max-mito", type=float, metavar="PERCENT", help="(default: 5)")
    command.add_argument(
        "--no-qc", dest="qc", action="store_const", const=False, help="keep all cells and genes"
    )


def _add_preset(command: argparse.ArgumentParser, words: str) -> None:
    command.add_argument("--preset", help=words)


def _add_models(command: argparse.ArgumentParser, among: str) -> None:
    command.add_argument("--models", metavar="LIST", help=f"among {among}")


def _add_genes(command: argparse.ArgumentParser, default: str = "") -> None:
    command.add_argument("--genes", metavar="all|N", help=f"genes to model{default}")


def _add_latent(command: argparse.ArgumentParser) -> None:
    command.add_argument("--latent", type=int, metavar="N", help="dimensions of the code")


def _add_epochs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--epochs", type=int, metavar="N", help="most passes over the cells")


def _add_likelihood(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--likelihood",
        metavar="NAME",
        help="what decoders say of log-normalised expression: student_t, gaussian, "
        "shared_gaussian or squared_error; or of counts: poisson, nb or zinb "
        "(default: the preset's)",
    )


def _add_seed(command: argparse.ArgumentParser, words: str) -> None:
    command.add_argument("--seed", type=int, metavar="N", help=f"{words} (default: 0)")


def _add_seeds(command: argparse.ArgumentParser, default: int) -> None:
    words = f"how many seeds (default: {default})"
    command.add_argument("--seeds", type=int, metavar="N", help=words)


def _add_out(
    command: argparse.ArgumentParser,
    default: str | None,
    words: str = "default: %(default)s",
    *,
    metavar: str = "DIR",
) -> None:
    command.add_argument("--out", type=Path, default=default, metavar=metavar, help=words)


def _add_force(command: argparse.ArgumentParser, old: str) -> None:
    command.add_argument("--force", action="store_true", help=f"replace {old}")


def _add_quiet(command: argparse.ArgumentParser) -> None:
    command.add_argument("--quiet", action="store_true", help="print errors only")
