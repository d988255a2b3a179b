"""How a model is computed: problems, engines and the results they return.

This package knows nothing of `bayesdl`; users import `bayesdl`, which re-exports the engines.
"""

import warnings

with warnings.catch_warnings():
    # NumPyro imports the bars of notebooks, which complain where ipywidgets is missing; this
    # package shows plain bars there
    warnings.filterwarnings("ignore", message="IProgress not found")
    import numpyro.util  # noqa: F401

__bayesdl__ = (
    True  # another distribution also installs a package called `inference`; see bayesdl/__init__.py
)
