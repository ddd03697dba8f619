"""Come back to a run that was written: its report and its figures, drawn again or opened."""

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from scarce import record
from scarce.data import write
from scarce.errors import InputError
from scarce.report import all_figures, figure_names, render, to_png, to_svg

__all__ = ["draw_figures", "open_report", "render_again", "write_figures"]

_REPORT = "report.html"


def render_again(run: Path) -> Path:
    """Write the report of a run anew, and return its file.

    Parameters
    ----------
    run
        Folder that ``scarce run`` wrote.

    Raises
    ------
    InputError
        If it is no such folder.
    """
    page = render(record.load(run))
    write.text(run / _REPORT, page)
    return run / _REPORT


def open_report(run: Path) -> Path:
    """Open the report of a run in the reader's browser, and return its file.

    Raises
    ------
    InputError
        If there is no report, or no browser to open it with.
    """
    report = run / _REPORT
    if not report.is_file():
        raise InputError(
            f"RUN_DIR must hold a report; found no {_REPORT} in {run}. Write it with scarce report."
        )
    if not webbrowser.open(report.resolve().as_uri()):
        raise InputError(f"there must be a browser; found none. Open {report} yourself.")
    return report


def draw_figures(run: Path, out: Path, only: Sequence[str] = ()) -> list[Path]:
    """Write figures of a run for print, as PNG of 300 dots per inch and as SVG.

    Parameters
    ----------
    run
        Folder that ``scarce run`` wrote.
    out
        Folder for the figures, made if needed.
    only
        Names such as ``map_bvae``, or beginnings such as ``map``; all of them if empty.

    Returns
    -------
    The files, in the order of the report.

    Raises
    ------
    InputError
        If `run` is no such folder, or if a name is that of no figure.
    """
    summary = record.load(run)
    names = figure_names(summary)
    for part in only:
        if not any(_means(part, name) for name in names):
            raise InputError(
                f"--only must name figures or beginnings of their names; found {part!r}. "
                f"This run has {', '.join(names)}."
            )
    chosen = [name for name in names if not only or any(_means(part, name) for part in only)]
    write.claim(out, lambda: out.mkdir(parents=True, exist_ok=True))
    return write_figures(all_figures(summary, chosen), out)


def write_figures(figures: dict[str, Figure], out: Path) -> list[Path]:
    """Write each figure as PNG and as SVG; return the files."""
    files = []
    for name, figure in figures.items():
        for suffix, content in ((".png", to_png(figure, dpi=300)), (".svg", to_svg(figure))):
            with write.atomic_path(out / f"{name}{suffix}") as path:
                path.write_bytes(content)
            files.append(out / f"{name}{suffix}")
    return files


def _means(part: str, name: str) -> bool:
    """Say whether a figure is meant by its name, or by whole words at the beginning of it."""
    return name == part or name.startswith(f"{part}_")
