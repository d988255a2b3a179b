"""How a model is computed: problems, engines and the results they return.

This package knows nothing of `bayesdl`; users import `bayesdl`, which re-exports the engines.
"""

__bayesdl__ = (
    True  # another distribution also installs a package called `inference`; see bayesdl/__init__.py
)
