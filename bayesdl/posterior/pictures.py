"""The one door from results to their pictures.

Plots read predictions, posteriors and checks, and these have a `plot` method: a circle, which is
cut here. The plots are imported when the first picture is drawn, by a name that is looked up then.
"""

from __future__ import annotations

import importlib
from typing import Any

PLOTS = "bayesdl.plots"


def draw(picture: str, *args: object) -> Any:
    """Draw a picture and return its axes.

    Args:
        picture: the name of a function of `bayesdl.plots`.
        *args: what it takes.
    """
    return getattr(importlib.import_module(PLOTS), picture)(*args)
