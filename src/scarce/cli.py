"""The command line: parse, call, write, exit code. The only file that prints."""

import argparse
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scarce import __version__
from scarce.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

    from scarce.annotate import Annotation
    from scarce.config import RunConfig
    from scarce.summary import RunSummary

__all__ = ["bar", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: done. 2: the options or the data are wrong; one line on standard error says how.
    130: interrupted. Any other error is a defect and shows a traceback.
    """
    options = _parser().parse_args(argv)
    try:
        options.command(options)
    except InputError as error:
        print(f"scarce: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = "the same command goes on from here" if hasattr(options, "workers") else ""
        print(f"scarce: interrupted; {kept or 'nothing was written'}.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scarce", description="Single-cell autoencoders: train, map, cluster, compare."
    )
    parser.add_argument("--version", action="version", version=f"scarce {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_run(commands)
    _add_annotate(commands)

    info = commands.add_parser(
        "info",
        help="what a file holds and what a run would do; trains nothing",
        description="Read the data and say what a run with these options would do.",
    )
    _add_data(info)
    _add_options(info)
    info.set_defaults(command=_info)
    _add_benchmark(commands)
    _add_tune(commands)
    _add_revisits(commands)
    _add_denoise(commands)
    return parser


def _add_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """From counts to a report."""
    run = commands.add_parser(
        "run",
        help="from raw counts to trained models, maps, scores and a report",
        description="Train the models on raw counts; draw, cluster and score their codes.",
    )
    _add_data(run)
    _add_options(run)
    run.add_argument(
        "--out", type=Path, default=Path("scarce-run"), metavar="DIR", help="default: %(default)s"
    )
    run.add_argument("--force", action="store_true", help="replace an earlier run in DIR")
    run.add_argument("--quiet", action="store_true", help="print errors only")
    run.set_defaults(command=_run)


def _add_annotate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
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
        default=Path("labels.csv"),
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
    annotate.add_argument("--seed", type=int, metavar="N", help="random seed (default: 0)")
    _add_filters(annotate)
    annotate.add_argument("--force", action="store_true", help="replace files that exist")
    annotate.add_argument("--quiet", action="store_true", help="print errors only")
    annotate.set_defaults(command=_annotate, config=None)


def _add_revisits(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Commands for a run that was made before."""
    for name, command, words in (
        ("report", _report, "write the report of an earlier run anew"),
        ("view", _view, "open the report of a run in the browser"),
        ("figures", _figures, "write figures of a run for print: PNG of 300 dpi and SVG"),
    ):
        sentence = f"{words[0].upper()}{words[1:]}."
        parser = commands.add_parser(name, help=words, description=sentence)
        parser.add_argument("run", type=Path, metavar="RUN_DIR", help="folder scarce run wrote")
        parser.set_defaults(command=command)
    parser.add_argument(
        "--only",
        default="",
        metavar="LIST",
        help="names such as map_bvae,scores or beginnings such as kmeans (default: all)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default: RUN_DIR/figures)")


def _add_benchmark(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "benchmark",
        help="compare models and baselines on labelled data, over seeds, with intervals",
        description="Compare models with PCA and other baselines on labelled data. The same "
        "command again runs only what is missing.",
    )
    parser.add_argument(
        "--models", metavar="LIST", help="among dae,bvae,bvsc,lvsc,vasc,ensemble,scvi,ldvae"
    )
    parser.add_argument("--presets", metavar="LIST", help="default,paper (default: default)")
    parser.add_argument("--seeds", type=int, metavar="N", help="how many seeds (default: 5)")
    parser.add_argument(
        "--circular", metavar="LIST", help="data whose labels come from principal components"
    )
    parser.add_argument(
        "--floor", type=float, metavar="X", help="smaller differences are ties (default: 0.02)"
    )
    parser.add_argument("--latent", type=int, metavar="N", help="dimensions of the code")
    _add_covariates(parser)
    _add_likelihood(parser)
    _add_study(parser, out="scarce-benchmark")
    parser.set_defaults(command=_benchmark)


def _add_tune(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "tune",
        help="search a small grid of settings by held-out ELBO, without labels",
        description="Search settings by the ELBO of cells kept from the fit: every candidate "
        "gets a few epochs, the best third three times as many, and so on.",
    )
    parser.add_argument("--model", help="bvae or bvsc (default: bvae)")
    parser.add_argument("--preset", help="what the other settings are (default: default)")
    parser.add_argument(
        "--vary",
        action="append",
        required=True,
        metavar="OPTION=X,Y",
        help="values of latent, beta, alpha, lr or batch_size; once for each option",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="how many seeds (default: 2)")
    _add_study(parser, out="scarce-tune")
    parser.set_defaults(command=_tune)


def _add_denoise(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Expected expression from a trained model."""
    parser = commands.add_parser(
        "denoise",
        help="expected expression of cells under a trained model, as a layer on disk",
        description="Write cells with the expression a trained model expects of them, in blocks: "
        "the whole table is never in memory.",
    )
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL_DIR",
        help="folder of a model such as scarce-run/models/bvae, or of a run with only one",
    )
    _add_data(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("denoised.h5ad"),
        metavar="FILE",
        help="default: %(default)s",
    )
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    parser.set_defaults(command=_denoise)


def _add_study(parser: argparse.ArgumentParser, *, out: str) -> None:
    """Options of every grid of trials."""
    parser.add_argument("data", nargs="+", metavar="DATA", help="as for scarce run")
    parser.add_argument(
        "--labels",
        action="append",
        required=True,
        metavar="FILE|COLUMN",
        help="known cell types, by file or column of the cell table: once for all data sets, or "
        "once for each; cells without one are left out",
    )
    parser.add_argument("--layer", help="layer of an .h5ad with the raw counts")
    parser.add_argument("--data-dir", metavar="DIR", help="where pbmc3k lies")
    parser.add_argument("--genes", metavar="all|N", help="genes to model")
    parser.add_argument("--epochs", type=int, metavar="N", help="most passes over the cells")
    parser.add_argument("--seed", type=int, metavar="N", help="first random seed (default: 0)")
    parser.add_argument(
        "--unseen", type=float, metavar="SHARE", help="cells kept from every fit (default: 0.1)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of one trial (default: 1)")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes (default: 1)"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, instead")
    parser.add_argument(
        "--out", type=Path, default=Path(out), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="10x folder or .h5, .h5ad, .csv, .tsv, .loom, .zarr; "
        "or pbmc68k_reduced (default: 700 cells that come along), pbmc3k, simulated",
    )
    parser.add_argument("--layer", help="layer of an .h5ad with the raw counts")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="where pbmc3k lies, for use without network"
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Options of a run. None means not given, so that a config file can give it."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="options as TOML; flags win")
    parser.add_argument(
        "--labels",
        metavar="FILE|COLUMN",
        help="known cell types: a table by barcode or a column of the cell table "
        "(default: those of scarce annotate, which derive from PCA)",
    )
    _add_covariates(parser)
    parser.add_argument("--preset", help="default, or paper: the course report's models")
    parser.add_argument(
        "--models", metavar="LIST", help="among dae,bvae,bvsc,lvsc,vasc (default: dae,bvae,bvsc)"
    )
    parser.add_argument(
        "--genes", metavar="all|N", help="genes to model (default: 2000 most variable; paper: all)"
    )
    parser.add_argument("--latent", type=int, metavar="N", help="dimensions of the code")
    parser.add_argument("--beta", type=float, help="weight of the KL divergence")
    parser.add_argument("--alpha", type=float, help="prior share of active units in the β-VSC")
    parser.add_argument("--epochs", type=int, metavar="N", help="most passes over the cells")
    parser.add_argument("--batch-size", type=int, metavar="N", help="cells in a batch")
    parser.add_argument("--lr", type=float, help="learning rate")
    _add_likelihood(parser)
    parser.add_argument(
        "--scaled",
        action="store_const",
        const=True,
        help="model z-scores, at most 10 as Seurat's, not log-normalised expression",
    )
    parser.add_argument("--path", help="sparse or dense arithmetic (default: auto, the cheaper)")
    parser.add_argument("--seed", type=int, metavar="N", help="first random seed (default: 0)")
    parser.add_argument("--seeds", type=int, metavar="N", help="how many seeds (default: 1)")
    parser.add_argument(
        "--gmt", metavar="FILE", help="gene sets to look for in what each latent does to genes"
    )
    _add_filters(parser)


def _add_covariates(parser: argparse.ArgumentParser) -> None:
    """Options that name columns of the cell table."""
    parser.add_argument(
        "--batch",
        metavar="COLUMN",
        help="batch of each cell, a column of the cell table: the decoder is told of it, so that "
        "the code need not be",
    )
    parser.add_argument(
        "--covariates", metavar="LIST", help="columns of numbers to be treated likewise"
    )


def _add_likelihood(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--likelihood",
        metavar="NAME",
        help="what decoders say of log-normalised expression: gaussian, shared_gaussian or "
        "squared_error; or of counts: poisson, nb or zinb (default: the preset's)",
    )


def _add_filters(parser: argparse.ArgumentParser) -> None:
    """Options of quality control."""
    parser.add_argument("--min-cells", type=int, metavar="N", help="per gene (default: 3)")
    parser.add_argument("--min-genes", type=int, metavar="N", help="per cell (default: 200)")
    parser.add_argument("--max-genes", type=float, metavar="N", help="per cell (default: 2500)")
    parser.add_argument("--max-mito", type=float, metavar="PERCENT", help="(default: 5)")
    parser.add_argument(
        "--no-qc", dest="qc", action="store_const", const=False, help="keep all cells and genes"
    )


def _config(options: argparse.Namespace) -> "RunConfig":
    """Merge defaults, config file and flags, in rising order of precedence."""
    from scarce.config import RunConfig

    given = _read_toml(options.config) if options.config else {}
    aside = {"command", "config", "out", "force", "quiet", "data_dir"}
    aside |= {"output", "markers", "resolution"}
    flags = {k: v for k, v in vars(options).items() if v is not None and k not in aside}
    if "models" in flags:
        flags["models"] = [name for name in flags["models"].split(",") if name != "pca"]
    if "covariates" in flags:
        flags["covariates"] = _names(flags["covariates"])
    _read_genes(flags)
    return RunConfig.from_options(given | flags).resolve()


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_genes(flags: dict[str, Any]) -> None:
    """Turn a number of genes into one."""
    if str(flags.get("genes", "all")).isdigit():
        flags["genes"] = int(flags["genes"])


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--config must be a TOML file; {path}: {error}.") from error


def _load(options: argparse.Namespace, config: "RunConfig") -> "AnnData":
    from scarce.data import load

    return load(config.data, layer=config.layer, data_dir=options.data_dir)


def _run(options: argparse.Namespace) -> None:
    from scarce.data import write
    from scarce.export import export
    from scarce.pipeline import run
    from scarce.trial import silent

    config = _config(options)
    with write.new_directory(options.out, force=options.force) as directory:
        adata = _load(options, config)
        show = sys.stderr.isatty() and not options.quiet
        result = run(adata, config, progress=bar if show else silent)
        export(result, config, directory)
    if not options.quiet:
        _print_scores(result.summary)
        print(f"\nReport: {options.out / 'report.html'}")


def _annotate(options: argparse.Namespace) -> None:
    from scarce import check
    from scarce.annotate import PBMC, marker_genes, read_markers
    from scarce.export import annotation_files, export_annotation
    from scarce.pipeline import reference

    config = _config(options)
    if options.resolution is not None:
        check.in_range("--resolution", options.resolution, above=0)
    _require_free(annotation_files(options.output), options)
    markers = read_markers(options.markers) if options.markers else PBMC
    adata = _load(options, config)
    kept, found = reference(adata, config, markers=markers, resolution=options.resolution)
    genes = marker_genes(kept, found.clusters.to_numpy(str), seed=config.seed)
    export_annotation(found, genes, options.output)
    if not options.quiet:
        _print_annotation(found)
        print(f"\nLabels: {options.output}")


def _report(options: argparse.Namespace) -> None:
    from scarce.revisit import render_again

    print(f"Report: {render_again(options.run)}")


def _view(options: argparse.Namespace) -> None:
    from scarce.revisit import open_report

    print(f"Report: {open_report(options.run)}")


def _figures(options: argparse.Namespace) -> None:
    from scarce.revisit import draw_figures

    only = list(_names(options.only))
    for path in draw_figures(options.run, options.out or options.run / "figures", only):
        print(path)


def _denoise(options: argparse.Namespace) -> None:
    from scarce import preprocess
    from scarce.data import load
    from scarce.denoise import denoise, read_model

    _require_free([options.out], options, "--out")
    model = read_model(options.model)
    adata = load(options.data or "pbmc68k_reduced", layer=options.layer, data_dir=options.data_dir)
    preprocess.normalise(adata)
    denoise(model, adata, options.out)
    print(f"Denoised: {options.out}")


def _require_free(files: Sequence[Path], options: argparse.Namespace, flag: str = "-o") -> None:
    """Raise before any work if files could not be written, or would replace what is read."""
    given = (options.data, getattr(options, "markers", None))
    read = [Path(path).resolve() for path in given if path]
    for path in files:
        if path.resolve() in read:
            raise InputError(f"{path} must not be replaced, it is read. Choose another {flag}.")
        if path.exists() and not options.force:
            raise InputError(
                f"{path} must not exist yet; found it. Choose another {flag}, or pass --force."
            )
        if not path.parent.is_dir():
            raise InputError(
                f"{flag} must be in an existing directory; found none at {path.parent}."
            )


def _info(options: argparse.Namespace) -> None:
    from scarce.pipeline import plan

    config = _config(options)
    print("\n".join(plan(_load(options, config), config)))


def _study(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Flags of a study that were given, and how to run it."""
    from scarce.trial import silent

    aside = ("command", "out", "quiet", "workers", "scheduler")
    flags = {k: v for k, v in vars(options).items() if v is not None and k not in aside}
    _read_genes(flags)
    for name in ("models", "presets", "circular", "covariates"):
        if name in flags:
            flags[name] = _names(flags[name])
    flags |= {"data": tuple(options.data), "labels": tuple(options.labels)}
    show = sys.stderr.isatty() and not options.quiet
    how = {"workers": options.workers, "scheduler": options.scheduler}
    return flags, how | {"progress": bar if show else silent}


def _benchmark(options: argparse.Namespace) -> None:
    from scarce.study import BenchmarkConfig, benchmark

    flags, how = _study(options)
    comparison = benchmark(BenchmarkConfig(**flags), options.out, **how)
    if options.quiet:
        return
    for warning in comparison.warnings:
        print(f"note: {warning}")
    table = comparison.estimates.query("metric in ['nmi', 'ari', 'knn_macro_f1', 'batch_mixing']")
    order = ["dataset", "space", "preset", "model"]
    means = table.pivot_table(index=order, columns="metric", values="mean", sort=False)
    print(means.round(3).to_string())
    print(f"\nReport: {options.out / 'report.html'}")


def _tune(options: argparse.Namespace) -> None:
    from scarce.study import TuneConfig, tune

    flags, how = _study(options)
    flags["vary"] = tuple(_read_vary(text) for text in options.vary)
    table = tune(TuneConfig(**flags), options.out, **how)
    if not options.quiet:
        print(table.to_string(index=False))
        print(f"\nBest: scarce run --config {options.out / 'best.toml'}")


def _read_vary(text: str) -> tuple[str, tuple[float, ...]]:
    """Read ``latent=5,10``."""
    name, _, values = text.partition("=")
    try:
        numbers = tuple(float(v) if set(v) & set(".eE") else int(v) for v in values.split(","))
    except ValueError as error:
        raise InputError(
            f"--vary must be an option and numbers, such as latent=5,10; found {text!r}."
        ) from error
    return name, numbers


@contextmanager
def bar(task: str, n_steps: int) -> Iterator[Callable[[int], None]]:
    """A progress bar with the time left, gone when the task is done."""
    from tqdm import tqdm

    with tqdm(total=n_steps, desc=task, leave=False, file=sys.stderr) as bar:

        def reached(step: int) -> None:
            bar.update(step - bar.n)

        yield reached


def _print_annotation(found: "Annotation") -> None:
    """The name of each cluster beside its evidence, and the resolution recommended."""
    for name in found.naming:
        second = name.score - name.margin
        why = f"{name.best} {name.score:.2f}, {name.runner_up} {second:.2f}" if name.best else ""
        doubt = "; ".join(filter(None, [why, name.reason]))
        print(f"{name.cluster:3} {name.n_cells:7,} cells  {name.cell_type:16} ({doubt})")
    if found.note:
        print(f"note: {found.note}")
    print(f"resolution {found.resolution:g}, modularity {found.modularity:.4f}")
    if found.recommended is not None:
        print(f"recommended by stability: --resolution {found.recommended:g}; see resolutions.csv")


def _print_scores(summary: "RunSummary") -> None:
    """Mean scores over the seeds, beside the source of the labels."""
    from scarce.export import metrics_table

    data = summary.data
    print(f"{data.name}: {data.n_cells:,} cells x {data.n_genes:,} genes")
    for warning in summary.warnings:
        print(f"note: {warning}")
    print(f"labels: {summary.labels.source}; mean of {summary.config['seeds']} seed(s)\n")
    columns = ["nmi", "ari", "homogeneity", "completeness", "silhouette"]
    means = metrics_table(summary).groupby(["space", "model"], sort=False)[columns].mean()
    print(means.round(3).to_string())
