"""A card for each latent: the genes it moves as bars, and the cells that use it on a small map."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib.image
import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from scarce.report.canvas import shown
from scarce.report.maps import drawn_cells
from scarce.report.tables import are_active, first_runs
from scarce.summary import CodeSummary, GeneEffect, Programme, RunSummary

__all__ = ["Bar", "Card", "Chapter", "chapters"]

_N_UP, _N_DOWN = 8, 4
_TALL, _GAP, _AXIS = 15, 6, 14
_NAME, _WIDTH = 88, 280
"""Where bars begin and end, in units of the drawing; right of them is room for a number."""
_SIDES = 1.96
"""Standard errors on either side of an effect that its line spans: 95 % of a normal."""

_PIXELS = 360
_MARGIN = 12
_IDLE, _HIGH, _LOW = "#d9dee3", "#0072B2", "#D55E00"


@dataclass(frozen=True)
class Bar:
    """The effect on one gene, in units of the drawing."""

    gene: str
    words: str
    y: float
    x: float
    width: float
    low: float
    high: float
    """Ends of the interval."""
    up: bool


@dataclass(frozen=True)
class Card:
    """One latent."""

    programme: Programme
    number: int
    """From 1, as in the explorer."""
    src: str
    """Its cells on the map; empty where there is no map."""
    bars: tuple[Bar, ...]
    zero: float
    """Where no effect is drawn."""
    ticks: tuple[tuple[float, str], ...]
    """Place and value of a round effect on either side that has room for it."""
    height: int


@dataclass(frozen=True)
class Chapter:
    """The cards of one model."""

    title: str
    code: CodeSummary
    cards: tuple[Card, ...]
    """The latent with the largest effects first."""
    idle: tuple[int, ...]
    """Numbers of the latents whose code hardly varies, or that fewer than two cells use."""


def chapters(summary: RunSummary) -> list[Chapter]:
    """Return the models whose latents were looked at, those with gates first."""
    runs = first_runs(summary)
    codes = sorted(summary.codes, key=lambda code: not code.gated)
    return [_chapter(summary, code, runs[code.model].title) for code in codes]


def _chapter(summary: RunSummary, code: CodeSummary, title: str) -> Chapter:
    mine = [found for found in summary.programmes if found.model == code.model]
    z = summary.cells.latents.get(code.model)
    used = [
        found
        for found in mine
        if (found.up or found.down) and (z is None or are_active(z)[found.latent])
    ]
    return Chapter(
        title=title,
        code=code,
        cards=tuple(_card(summary, found) for found in sorted(used, key=_strength, reverse=True)),
        idle=tuple(found.latent + 1 for found in mine if found not in used),
    )


def _strength(found: Programme) -> float:
    return max(abs(gene.effect) for gene in (*found.up, *found.down))


def _card(summary: RunSummary, found: Programme) -> Card:
    genes = [*found.up[:_N_UP], *reversed(found.down[:_N_DOWN])]
    ends = [gene.effect + side * _error(gene) for gene in genes for side in (-_SIDES, _SIDES)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    scale = (_WIDTH - _NAME) / (high - low)
    bars = tuple(_bar(gene, i, low, scale) for i, gene in enumerate(genes))
    return Card(
        programme=found,
        number=found.latent + 1,
        src=_small_map(summary, found),
        bars=bars,
        zero=round(_NAME - low * scale, 1),
        ticks=_ticks(low, high, scale),
        height=len(bars) * (_TALL + _GAP) + _AXIS,
    )


def _bar(gene: GeneEffect, row: int, low: float, scale: float) -> Bar:
    def across(effect: float) -> float:
        return round(_NAME + (effect - low) * scale, 1)

    start, end = sorted((across(0.0), across(gene.effect)))
    error = _SIDES * _error(gene)
    return Bar(
        gene=shown(gene.gene, 13),
        words=f"{gene.gene} " + f"{gene.effect:+.2f}".replace("-", "−"),
        y=row * (_TALL + _GAP),
        x=start,
        width=round(end - start, 1),
        low=across(gene.effect - error),
        high=across(gene.effect + error),
        up=gene.effect > 0,
    )


def _ticks(low: float, high: float, scale: float) -> tuple[tuple[float, str], ...]:
    """Return the largest effect of one digit within reach, on each side with room for its name."""
    largest = max(-low, high)
    power = 10.0 ** np.floor(np.log10(largest))
    step = float(np.floor(largest / power) * power)
    at = {round(_NAME + (value - low) * scale, 1): value for value in (-step, step)}
    return tuple(
        (x, f"{value:+.3g}".replace("-", "−")) for x, value in at.items() if _NAME <= x <= _WIDTH
    )


def _error(gene: GeneEffect) -> float:
    return gene.se if np.isfinite(gene.se) else 0.0


def _small_map(summary: RunSummary, found: Programme) -> str:
    """Draw the cells of the 2-D map: grey where the latent is off, dark where it is strong.

    Of a latent that does not switch the sides are turned as its effects are, so that cells and
    bars of one colour belong together. The effect of switching is blind to the side.
    """
    cells = summary.cells
    if found.model not in cells.tsne2d or found.model not in cells.latents:
        return ""
    kept = drawn_cells(summary)
    z = cells.latents[found.model][:, found.latent]
    if found.switches:
        value = z * (cells.inclusion[found.model][:, found.latent] > 0.5)
    else:
        value = found.sign * (z - z.mean()) * (np.abs(z - z.mean()) > z.std())
    image = _raster(cells.tsne2d[found.model][kept], value[kept])
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, image, format="webp", pil_kwargs={"lossless": True})
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _raster(points: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Paint a disc for each cell, the strongest last, (pixels, pixels, 3)."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max()) or 1.0
    room = _PIXELS - 1 - 2 * _MARGIN
    place = np.round(_MARGIN + room * (0.5 + (points - (low + high) / 2) / extent)).astype(int)
    order = np.argsort(np.abs(value), kind="stable")
    columns, rows = place[order, 0], _PIXELS - 1 - place[order, 1]
    image = np.full((_PIXELS, _PIXELS, 3), 255, np.uint8)
    colours = _colours(value[order])
    for dx, dy in _disc(len(points)):
        image[rows + dy, columns + dx] = colours
    return image


def _colours(value: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Blend from pale to the colour of the side, by strength; grey where zero."""
    idle, high, low = (np.array(to_rgb(colour)) for colour in (_IDLE, _HIGH, _LOW))
    strength = np.abs(value) / (np.abs(value).max(initial=0.0) or 1.0)
    side = np.where((value > 0)[:, None], high, low)
    mixed = idle + (0.25 + 0.75 * strength[:, None]) * (side - idle)
    colours: NDArray[np.uint8] = np.round(
        255 * np.where((value == 0)[:, None], idle, mixed)
    ).astype(np.uint8)
    return colours


def _disc(n_points: int) -> Iterator[tuple[int, int]]:
    """Yield the offsets of a disc that is smaller the more points there are."""
    radius = float(np.clip(120 / np.sqrt(n_points), 0.8, 4))
    reach = int(radius)
    for dx in range(-reach, reach + 1):
        for dy in range(-reach, reach + 1):
            if dx * dx + dy * dy <= radius * radius:
                yield dx, dy
