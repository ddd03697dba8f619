"""A run as figures and as one self-contained page, from its summary alone."""

from scarce.report.canvas import to_png, to_svg
from scarce.report.figures import all_figures
from scarce.report.render import render

__all__ = ["all_figures", "render", "to_png", "to_svg"]
