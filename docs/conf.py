"""The settings of the site: Sphinx, the pydata theme, and tutorials read by myst-nb."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

from site_pages import docstrings, write_pages  # noqa: E402

import bayesdl  # noqa: E402

project = "bayesdl"
author = "the bayesdl developers"
copyright = f"2026, {author}"
release = version = bayesdl.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "site_pages.mathml",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["conf.py", "site_pages", "_static", "gallery/*.py"]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext", ".py": "myst-nb"}
nitpicky = False

# tutorials are scripts that jupytext reads as notebooks; they run only where EXECUTE says so
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = os.environ.get("EXECUTE", "off")
nb_execution_timeout = 1200
nb_execution_raise_on_error = True
nb_execution_cache_path = str(DOCS.parent / "build" / "notebooks")
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_block"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = "bayesdl"
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {
        "text": "bayesdl",
        "image_light": "_static/favicon.svg",
        "image_dark": "_static/favicon.svg",
    },
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
# pages without pages below them need no list of these
html_sidebars = {"index": [], "benchmarks": []}
html_copy_source = False
html_show_sourcelink = False


def setup(app: object) -> None:
    """Write the pages that are made from the code, and prepare docstrings."""
    write_pages(DOCS)
    app.connect("autodoc-process-docstring", docstrings.mend)  # type: ignore[attr-defined]
