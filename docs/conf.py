"""Sphinx configuration."""

from scarce import __version__

project = "scarce"
author = "the scarce authors"
copyright = "2026, the scarce authors"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # a documentation build trains no model

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's Parameters already say it, with shapes
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"scarce {__version__}"
