"""The command line: parse, call, write, exit code. The only file that prints."""

import argparse
import errno
import io
import os
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scarce.errors import InputError
from scarce.flags import parser

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
    commands = {
        "run": _run,
        "annotate": _annotate,
        "info": _info,
        "benchmark": _benchmark,
        "tune": _tune,
        "report": _report,
        "view": _view,
        "figures": _figures,
        "denoise": _denoise,
    }
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no sign is worth an error
            stream.reconfigure(errors="replace")
    options = parser().parse_args(argv)
    try:
        commands[options.command](options)
        sys.stdout.flush()
    except InputError as error:
        print(f"scarce: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough, as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        kept = "the same command goes on from here" if hasattr(options, "workers") else ""
        print(f"scarce: interrupted; {kept or 'nothing was written'}.", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EACCES):
            raise
        print(
            f"scarce: {error.filename} must be a path that can be used: {error.strerror}.",
            file=sys.stderr,
        )
        return 2
    return 0


def _config(options: argparse.Namespace) -> "RunConfig":
    """Merge defaults, config file and flags, in rising order of precedence."""
    from scarce.config import RunConfig

    given = _read_toml(options.config) if options.config else {}
    aside = {"command", "config", "out", "force", "quiet", "data_dir"}
    aside |= {"output", "markers", "resolution"}
    flags = {k: v for k, v in vars(options).items() if v is not None and k not in aside}
    if "models" in flags:
        flags["models"] = [name for name in _names(flags["models"]) if name != "pca"]
    if "covariates" in flags:
        flags["covariates"] = _names(flags["covariates"])
    _read_genes(flags)
    return RunConfig.from_options(given | flags).resolve()


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_genes(flags: dict[str, Any]) -> None:
    """Turn a number of genes into one."""
    if str(flags.get("genes", "all")).isdecimal():
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
    from scarce.export import WRITTEN, export
    from scarce.pipeline import run
    from scarce.trial import silent

    config = _config(options)
    to = write.new_directory(options.out, force=options.force, replaced=WRITTEN)
    with to as directory:
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
    with warnings.catch_warnings(record=True) as caught:
        denoise(model, adata, options.out)
    for note in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"note: {note}")
    print(f"Denoised: {options.out}")


def _require_free(files: Sequence[Path], options: argparse.Namespace, flag: str = "-o") -> None:
    """Raise before any work if files could not be written, or would replace what is read."""
    given = (options.data, getattr(options, "markers", None))
    read = [Path(path).resolve() for path in given if path]
    for path in files:
        if path.is_dir() or list(files).count(path) > 1:
            raise InputError(
                f"{flag} must name a file of its own; found {path}, a folder or a file that is "
                "written beside it."
            )
        if path.resolve() in read:
            raise InputError(f"{path} must not be replaced, it is read. Choose another {flag}.")
        if path.exists() and not options.force:
            raise InputError(
                f"{path} must not exist yet; found it. Choose another folder with {flag}, or "
                "pass --force."
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
    if options.data_dir is not None:
        flags["data_dir"] = str(options.data_dir)
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
        why = f"{name.best} {name.score:.2f}" if name.best else ""
        why += f", {name.runner_up} {second:.2f}" if name.runner_up else ""
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
