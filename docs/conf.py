"""How Sphinx builds the documentation: ``sphinx-build -n -W --keep-going docs docs/_build/html`` (or ``-b man``)."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

from numpydoc.xref import DEFAULT_LINKS  # noqa: E402

import embshrink  # noqa: E402

project = "embshrink"
author = "the embshrink authors"
copyright = "the embshrink authors"
release = version = embshrink.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton", "listings"]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [("py:obj", ".*")]  # a name in single backticks in a docstring: a link if it can be one
smartquotes = False  # would turn -- of options into a dash
default_role = "autolink"

# Markdown
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

# Docstrings: their types stand in "Parameters", so signatures show names and defaults only.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
DEFAULT_LINKS.clear()  # to Python's and numpy's sites, which are not asked during a build
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # link the names below and no others
numpydoc_xref_aliases = {name: f"embshrink.{name}" for name in embshrink.__all__ if name[0].isupper()} | {
    "Report": "embshrink.compression.report.Report",
    "PlannedFile": "embshrink.compression.job.PlannedFile",
    "ParetoPoint": "embshrink.compression.pareto.ParetoPoint",
    "MethodInfo": "embshrink.methods.registry.MethodInfo",
    **{name: f"embshrink.evaluation.scores.{name}"
       for name in ("Correlation", "Evaluation", "SimilarityScore", "AnalogyScore", "Reconstruction", "Overlap")},
    **{name: f"embshrink.evaluation.benchmarks.{name}" for name in ("WordPairs", "Analogies")},
    "Verified": "embshrink.reader.Verified",
    "Neighbour": "embshrink.reader.Neighbour",
    "Lookup": "embshrink.reader.Lookup",
}

html_theme = "furo"
html_title = f"embshrink {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": "https://github.com/embshrink/embshrink/",
    "source_branch": "main",
    "source_directory": "docs/",
}

man_pages = [("cli", "embshrink", "make word-vector files smaller", author, 1)]
