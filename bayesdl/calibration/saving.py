"""Adjustments in bundles: what each stores, put together again for the posterior it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from bayesdl.calibration.conformal import training
from bayesdl.calibration.conformal.add_one_in import AddOneIn
from bayesdl.calibration.conformal.refits import Refits
from bayesdl.calibration.conformal.split import Split
from bayesdl.calibration.maps.making import Recalibrated
from bayesdl.posterior.adjustment import AbstractAdjustment
from bayesdl.posterior.core import AbstractPosterior
from inference.core.typing import Info

Restorer: TypeAlias = Callable[[AbstractPosterior, Info], AbstractAdjustment]
"""A function of (posterior, what was stored)."""

RESTORERS: dict[str, Restorer] = {
    AddOneIn.name: training.restored,
    Refits.name: lambda posterior, stored: Refits.from_stored(stored, posterior),
    Recalibrated.name: lambda posterior, stored: Recalibrated.from_stored(stored),
    Split.name: lambda posterior, stored: Split.from_stored(stored),
}


def restore(posterior: AbstractPosterior, name: str, stored: Info) -> AbstractAdjustment:
    """Rebuild an adjustment from what it stored.

    Args:
        posterior: the posterior that it belongs to, without it.
        name: what files call the adjustment.
        stored: what `AbstractAdjustment.stored` gave.

    Raises:
        KeyError: for a name that this version does not know.
    """
    return RESTORERS[name](posterior, stored)
