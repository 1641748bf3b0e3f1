"""Sphinx configuration: ``python -m sphinx -W docs docs/_build`` builds the pages and runs the examples."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import skrobust

project = "skrobust"
author = "the skrobust developers"
version = release = skrobust.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["dollarmath"]
autosummary_generate = True
numpydoc_show_class_members = False
exclude_patterns = ["_build", "gallery/**/*.py", "examples/**"]
html_theme = "alabaster"
html_theme_options = {"description": "Sparse coding for robust image classifiers", "page_width": "1100px"}
suppress_warnings = ["config.cache", "myst.xref_missing"]
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "abort_on_example_error": True,
    "show_signature": False,
    "remove_config_comments": True,
}
