"""A run as figures and as one self-contained page, from its summary alone."""

from scarce.report.canvas import to_png, to_svg
from scarce.report.comparison import comparison_figures, method_names
from scarce.report.comparison_page import render_comparison
from scarce.report.figures import all_figures, figure_names
from scarce.report.render import render

__all__ = [
    "all_figures",
    "comparison_figures",
    "figure_names",
    "method_names",
    "render",
    "render_comparison",
    "to_png",
    "to_svg",
]
