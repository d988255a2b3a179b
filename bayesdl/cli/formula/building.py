"""A formula as a model, from the command line's options."""

from __future__ import annotations

from bayesdl.cli.building import Configure, configured
from bayesdl.cli.settings import Settings, fields
from bayesdl.formula.families import FAMILIES
from bayesdl.formula.spec import Formula

FORMULA_LIKELIHOODS = tuple(name.replace("_", "-") for name in FAMILIES)
SETTINGS = ("link", "centred")


def build_formula(
    texts: list[str], likelihood: str | None, settings: Settings
) -> tuple[Formula, Configure]:
    """Return the model, and a function that applies the engine's settings.

    Args:
        texts: the formula of the mean, and those of other parameters.
        likelihood: one of `FORMULA_LIKELIHOODS`, or None.
        settings: the settings as given.

    Raises:
        UsageError: for settings that have impossible values.
        ModelError: for a formula that does not parse.
    """
    types = {name: text for name, text in fields(Formula).items() if name in SETTINGS}
    name = (likelihood or "normal").replace("-", "_")
    model = Formula(texts[0], tuple(texts[1:]), name, **settings.values("model", types))
    return model, configured(settings, {"model": types})
