"""How Sphinx builds the documentation: ``sphinx-build -n -W --keep-going docs docs/_build/html`` (or ``-b man``)."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import embshrink  # noqa: E402

project = "embshrink"
author = "the embshrink authors"
copyright = "the embshrink authors"
release = version = embshrink.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton", "listings"]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [("py:obj", ".*")]  # a name in single backticks of a docstring is a link where it can be one
smartquotes = False  # would turn -- of options into a dash
suppress_warnings = ["myst.header"]  # pages that are included begin below their own title
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
