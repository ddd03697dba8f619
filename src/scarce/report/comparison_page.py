"""The page of a benchmark: one self-contained HTML file, as that of a run and without scripts."""

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from scarce.compare import COMPARED, Comparison, wins
from scarce.report.comparison import comparison_figures, method_names
from scarce.report.render import environment, page_text, pictures, read_asset, toml
from scarce.report.tables import METRICS, number

__all__ = ["render_comparison"]

SPACES = {
    "latent": "k-means in the latent space",
    "latent_leiden": "Leiden in the latent space",
    "tsne2d": "k-means in the 2-D t-SNE map",
}
TITLES = {
    **METRICS,
    "knn_balanced_accuracy": "kNN balanced accuracy",
    "knn_macro_f1": "kNN macro-F1",
}
FIT = {
    "r2": "Explained variance",
    "knn_r2": "Explained by neighbours",
    "elbo": "ELBO",
    "iwae": "IWAE",
    "active_units": "Active units",
    "batch_mixing": "Batch mixing",
    "seconds": "Seconds",
    "peak_rss_mb": "Peak memory, MB",
    "n_parameters": "Parameters",
    "epochs": "Epochs",
}


def render_comparison(comparison: Comparison, figures: dict[str, Figure] | None = None) -> str:
    """Write a benchmark as one self-contained HTML page.

    Parameters
    ----------
    comparison
        What the benchmark found.
    figures
        Its figures, if `comparison_figures` has drawn them already.
    """
    names = method_names(comparison)
    found = set(comparison.results["metric"])
    page = (
        environment()
        .get_template("comparison.html")
        .render(
            comparison=comparison,
            names=names,
            pictures=pictures(comparison_figures(comparison) if figures is None else figures),
            spaces=SPACES,
            metrics={m: TITLES[m] for m in COMPARED},
            fit={m: title for m, title in FIT.items() if m in found},
            cells=_cells(comparison.estimates),
            verdicts=_verdicts(comparison),
            config=toml(comparison.config),
            css=Markup(read_asset("report.css")),
        )
    )
    return page_text(page)


def short(value: float) -> str:
    """Write a number of any size in a few digits."""
    if pd.isna(value):
        return "–"
    digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return digits.replace("-", "−")


def _cells(estimates: pd.DataFrame) -> dict[tuple[str, ...], tuple[str, str]]:
    """(data set, model, preset, space, metric) to the mean, and its interval or nothing."""
    found = {}
    for row in estimates.to_dict("records"):
        key = tuple(row[k] for k in ("dataset", "model", "preset", "space", "metric"))
        has_interval = not pd.isna(row["low"]) and row["metric"] in COMPARED
        interval = f"{number(row['low'])} to {number(row['high'])}" if has_interval else ""
        mean = (
            number(row["mean"])
            if row["metric"] in (*COMPARED, "r2", "knn_r2", "batch_mixing")
            else short(row["mean"])
        )
        found[key] = (mean, interval)
    return found


def _verdicts(comparison: Comparison) -> dict[str, dict[str, list[str]]]:
    """Metric to method to its counts of verdicts in each space."""
    if comparison.differences.empty:
        return {}
    names = method_names(comparison)
    tables: dict[str, dict[str, list[str]]] = {}
    for metric in ("nmi", "ari"):
        rows: dict[str, list[str]] = {}
        for space in SPACES:
            counts = wins(comparison.differences, space, metric)
            for (model, preset), row in zip(counts.index, counts.to_numpy(), strict=True):
                text = " / ".join(str(n) for n in row)
                rows.setdefault(names[str(model), str(preset)], []).append(text)
        tables[TITLES[metric]] = rows
    return tables
