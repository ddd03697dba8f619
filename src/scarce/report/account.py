"""What was done, in sentences with their numbers, and the works it rests on."""

from collections.abc import Iterator
from importlib.resources import files

from markupsafe import Markup

from scarce.report.maps import drawn_cells
from scarce.report.tables import first_runs
from scarce.summary import Expression, RunSummary

__all__ = ["citations", "steps"]

_ALWAYS = (
    "scarce",
    "wolf2018scanpy",
    "vandermaaten2008tsne",
    "kobak2019art",
    "policar2024opentsne",
)
_ZHENG = ("pbmc3k", "pbmc68k_reduced")
_OF_MODEL = {
    "bvae": ("kingma2014vae", "higgins2017beta"),
    "bvsc": ("kingma2014vae", "higgins2017beta", "tonolini2020vsc"),
    "lvsc": ("kingma2014vae", "tonolini2020vsc"),
    "vasc": ("kingma2014vae", "wang2018vasc"),
}


def steps(summary: RunSummary, n_explored: int) -> Iterator[tuple[str, str]]:
    """Yield what was done in order: a word for each step, and a sentence or two with numbers.

    Parameters
    ----------
    summary
        What the run did and found.
    n_explored
        Cells the page's explorer has.

    Notes
    -----
    Where a sentence holds a name, it is markup in which the name stands apart.
    """
    data, cells = summary.data, summary.cells
    yield (
        "Read",
        (
            Markup("{:,} cells and {:,} genes from <bdi>{}</bdi> ({}).").format(
                data.n_cells_read, data.n_genes_read, data.name, data.format
            )
        ),
    )
    removed = [f"{r.n_cells or r.n_genes:,} {r.rule}" for r in summary.removed]
    kept = f"{data.n_cells:,} cells and {data.n_genes:,} genes were kept."
    yield "Filtered", f"Removed {'; '.join(removed)}; {kept}" if removed else f"Nothing; {kept}"
    yield "Normalised", "Counts of every cell scaled to 10,000, then log(1 + x)."
    few = data.n_genes_modelled < data.n_genes
    chosen = "the most variable ones by Seurat's variance of standardised counts" if few else "all"
    yield "Chose genes", f"{data.n_genes_modelled:,} of {data.n_genes:,}: {chosen}."
    labels = summary.labels
    source = Markup("<bdi>{}</bdi>").format(labels.source)
    yield "Took labels", Markup("{} types: {}.").format(len(labels.counts), source)
    for model, run in first_runs(summary).items():
        yield run.title, _fit(summary, model)
    if cells.tsne2d:
        maps = "two and three dimensions" if cells.tsne3d else "two dimensions"
        perplexity = min(40, (len(cells.labels) - 1) / 3)
        yield "Drew maps", f"t-SNE of every latent space in {maps}, perplexity {perplexity:.3g}."
    if cells.kmeans:
        found = f"k-means with {len(labels.counts)} centres, the best of 20 starts"
        also = (
            ", and Leiden on shared neighbours in the latent space at resolution 0.5"
            if cells.leiden
            else ""
        )
        yield "Clustered", f"{found}, in the latent space and on the 2-D map{also}."
    if summary.markers:
        yield "Found markers", "Wilcoxon's rank sum test of every type against all other cells."
    if cells.expression is not None:
        yield "Kept for this page", _kept(summary, cells.expression, n_explored)


def citations(summary: RunSummary) -> str:
    """Return the works this run rests on, as BibTeX."""
    wanted = [*_ALWAYS]
    for model in first_runs(summary):
        wanted.extend(_OF_MODEL.get(model, ()))
    if summary.data.n_genes_modelled < summary.data.n_genes:
        wanted.append("stuart2019seurat")
    if summary.cells.leiden:
        wanted.append("traag2019leiden")
    if summary.data.name in _ZHENG:
        wanted.append("zheng2017massively")
    text = (files(__package__) / "templates" / "citations.bib").read_text(encoding="utf-8")
    entries = {entry.split("{", 1)[1].split(",", 1)[0]: entry for entry in text.split("\n\n")}
    version = summary.environment.get("scarce", "")
    found = "\n\n".join(entries[key].strip() for key in dict.fromkeys(wanted))
    return found.replace("VERSION", version)


def _kept(summary: RunSummary, expression: Expression, n_explored: int) -> str:
    """Say which cells and genes are left to look at."""
    n_drawn = len(drawn_cells(summary))
    fewer = f", {n_explored:,} of them in the explorer" if n_explored < n_drawn else ""
    return (
        f"{n_drawn:,} of {len(summary.cells.labels):,} cells{fewer}; counts of "
        f"up to {len(expression.genes):,} genes: markers and the most variable ones."
    )


def _fit(summary: RunSummary, model: str) -> str:
    """Say how a model was fitted."""
    runs = [run for run in summary.runs if run.model == model]
    seeds = ", ".join(str(run.seed) for run in runs)
    many = "seeds" if len(runs) > 1 else "seed"
    seconds = sum(run.seconds for run in runs)
    if not any(run.epochs for run in runs):
        return f"Computed with {many} {seeds} in {seconds:.3g} s."
    epochs = " and ".join(dict.fromkeys(f"{run.epochs}" for run in runs))
    likelihood = None if model == "vasc" else summary.config.get("likelihood")
    return (
        f"Trained with {many} {seeds}: {epochs} epochs, {runs[0].n_parameters:,} parameters, "
        f"{seconds:.3g} s in all{f'; likelihood {likelihood}' if likelihood else ''}."
    )
