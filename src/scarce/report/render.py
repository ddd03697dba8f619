"""The page: one self-contained HTML file that opens without a network.

The page is plain HTML with pictures; its script only adds the explorer of cells, and where it
cannot run the pictures stay. Everything a user can name (cell types, barcodes, files) reaches the
page through Jinja's escaping, and reaches the script packed in a data block. The content security
policy names the script by its digest, so no other one would run.
"""

import base64
import hashlib
import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

import tomli_w
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from scarce.report.account import citations, steps
from scarce.report.canvas import to_webp
from scarce.report.confusion import merges
from scarce.report.figures import all_figures
from scarce.report.maps import MOST_NAMES, drawn_cells
from scarce.report.palette import styles
from scarce.report.payload import Payload, payload
from scarce.report.programmes import chapters
from scarce.report.tables import (
    BASELINE,
    METRICS,
    SPACES,
    best,
    first_runs,
    number,
    score_rows,
    training_rows,
)
from scarce.summary import RunSummary

__all__ = ["Picture", "environment", "page_text", "pictures", "read_asset", "render", "toml"]

_SCRIPTS = ("cells.js", "paint.js", "map.js", "explorer.js")
_MOST_BYTES = 25_000_000
"""Of the page: what can still be sent by mail and is opened in seconds."""
_ROOM_OF_PICTURES = 9_000_000
"""Characters all pictures may take before they are drawn more coarsely."""
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Embeddings, overrides and isolates of Unicode's bidirectional algorithm."""
_UNFIT = re.compile(f"\0|{_TURNING.pattern}")
_FINENESS = (150, 100, 70)
"""Dots per inch to try."""


@dataclass(frozen=True)
class Picture:
    """A figure as the page embeds it."""

    src: str
    width: int
    height: int


def render(summary: RunSummary, figures: dict[str, Figure] | None = None) -> str:
    """Write a run as one self-contained HTML page.

    Parameters
    ----------
    summary
        What the run did and found.
    figures
        Its figures, if `all_figures` has drawn them already.

    Returns
    -------
    str
        A complete document. Equal summaries give equal strings: there is no clock and no
        random identifier in it.
    """
    script = "\n".join(read_asset(name) for name in _SCRIPTS)
    fill = partial(
        environment().get_template("report.html").render,
        summary=summary,
        models=first_runs(summary),
        pictures=pictures(all_figures(summary) if figures is None else figures),
        look=styles(summary.labels.counts),
        n_drawn=len(drawn_cells(summary)),
        spaces=SPACES,
        metrics=METRICS,
        baseline=BASELINE,
        rows=score_rows(summary),
        best=best(score_rows(summary)),
        training=training_rows(summary),
        merges={model: merges(summary, model) for model in summary.cells.kmeans},
        citations=citations(summary),
        settings=_settings(summary),
        command=f"scarce run {shlex.quote(summary.data.name)} --config config.toml",
        config=toml(summary.config),
        chapters=chapters(summary),
        most_names=MOST_NAMES,
        css=Markup(read_asset("report.css") + read_asset("programmes.css")),
        script=Markup(script),
        digests=_digest(script),
    )

    def page(cells: Payload) -> str:
        return page_text(fill(explored=cells, steps=list(steps(summary, cells.n_cells))))

    # The page before its cells, to see what room is left; their number adds a few digits.
    bare = page(Payload("-", 0))
    return page(payload(summary, room=_MOST_BYTES - len(bare.encode("utf-8")) - 100))


def environment() -> Environment:
    """Return the templates, which escape every name a user gave."""
    templates = Environment(
        loader=PackageLoader("scarce.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        duration=_duration, memory=_memory, number=number, names=_names, value=_value, words=_words
    )
    return templates


def page_text(page: str) -> str:
    """Replace what no page can store or show, from names in broken files or of ill will.

    Half a character, a zero, and the signs that turn the direction of all text after them.
    """
    page = _UNFIT.sub("\N{REPLACEMENT CHARACTER}", page)
    return page.encode("utf-8", errors="replace").decode("utf-8")


def pictures(figures: dict[str, Figure]) -> dict[str, Picture]:
    """Encode every figure; in CSS pixels its text is as large as the page's.

    Figures of very many cells are drawn more coarsely, so that all of them leave room for cells.
    """
    for dpi in _FINENESS:
        drawn = {stem: _picture(figure, dpi) for stem, figure in figures.items()}
        if sum(len(picture.src) for picture in drawn.values()) <= _ROOM_OF_PICTURES:
            break
    return drawn


def _picture(figure: Figure, dpi: int) -> Picture:
    width, height = figure.get_size_inches() * 96
    encoded = base64.b64encode(to_webp(figure, dpi=dpi)).decode("ascii")
    return Picture(f"data:image/webp;base64,{encoded}", round(width), round(height))


def _settings(summary: RunSummary) -> dict[str, list[object]]:
    """Return each hyper-parameter with its value in every model, empty where it has none."""
    models = [dict(_flat(run.settings)) for run in first_runs(summary).values()]
    names = dict.fromkeys(name for settings in models for name in settings)
    return {name: [settings.get(name, "") for settings in models] for name in names}


def _flat(settings: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every setting by its dotted name, groups of settings opened up."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def toml(config: dict[str, object]) -> str:
    """Write options as TOML, signs that turn the direction of text as escapes."""
    plain = _plain(config)
    written = tomli_w.dumps(plain) if isinstance(plain, dict) else ""
    return _TURNING.sub(lambda sign: f"\\u{ord(sign[0]):04X}", written)


def _plain(value: object) -> object:
    """Return the value in the types TOML has; a setting that is not set is left out."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, bool | int | float | str) else str(value)


def read_asset(name: str) -> str:
    """Return a file that lies beside the templates."""
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """Return the source expression that lets a content security policy run this very script."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{seconds / 60:.1f} min"


def _memory(megabytes: float) -> str:
    """Write an amount of memory for people; a dash where it is not known."""
    if math.isnan(megabytes):
        return "–"
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def _value(value: object) -> str:
    """Write the value of a setting for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_value(inner) for inner in value) or "none"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _names(values: Sequence[str]) -> Markup:
    """Join names as people do, each kept from turning the text around it."""
    return Markup(_words([Markup("<bdi>{}</bdi>").format(value) for value in values]))


def _words(values: Sequence[object]) -> str:
    """Join values as people do: ``a, b and c``."""
    *rest, last = (str(value) for value in values)
    return f"{', '.join(rest)} and {last}" if rest else last
