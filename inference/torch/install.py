"""Loading of torch and the libraries on it, only when an engine needs them."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from typing import Any

from inference.process.quiet import quiet

# random numbers, settings and parameters of torch, GPyTorch and Pyro belong to the process: what
# changes them holds this
ALONE = threading.RLock()

HINT = 'pip install "bayesdl[torch]"'


def reason_missing(*modules: str) -> str | None:
    """Return the reason why an engine that needs these modules cannot run.

    It is None where all are installed.

    Example:
        >>> reason_missing("math", "no_such_module")
        'no_such_module is not installed: pip install "bayesdl[torch]"'
    """
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return (
        f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed: {HINT}"
        if absent
        else None
    )


def load(module: str) -> Any:
    """Import a module, without the deprecation warnings that these libraries cause in each other.

    Raises:
        ImportError: where the module is not installed, saying what to install.
    """
    try:
        with quiet(DeprecationWarning, FutureWarning):
            return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} cannot be imported ({error}): {HINT}.") from error
