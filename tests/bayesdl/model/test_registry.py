"""Names of models and engines: each is that of one class."""

import pytest

import bayesdl as bdl
from bayesdl.engines import ENGINES, engine_class, register_engine
from bayesdl.model.registry import MODELS, SPECS, register_spec, registered_models, registered_specs
from bayesdl.models import register_model


@pytest.fixture(autouse=True)
def forget():
    before = list(ENGINES), list(registered_models()), dict(registered_specs())
    yield
    ENGINES[:], MODELS[:] = before[0], before[1]
    SPECS.clear()
    SPECS.update(before[2])


def foreign(base, name, **members):
    """A class of another package that has a name."""
    return type(name, (base,), {"__module__": "theirs", "__qualname__": name, **members})


def test_a_taken_name_of_a_model_is_refused():
    with pytest.raises(ValueError, match=r"theirs\.GP .* 'GP' is that of bayesdl\.gp\.spec\.GP"):
        register_model(foreign(bdl.GP, "GP"))
    with pytest.raises(ValueError, match=r"theirs\.Process .* 'gp' is that of bayesdl\.gp"):
        register_model(foreign(bdl.GP, "Process"))
    assert SPECS["GP"] is bdl.GP


def test_a_taken_name_of_a_part_is_refused():
    with pytest.raises(ValueError, match="'Mode' is that of"):
        register_spec("Mode")(foreign(bdl.Mode, "Mode"))
    assert SPECS["Mode"] is bdl.Mode


@pytest.mark.parametrize("name", ["NUTS", "Nuts", "ExactGP", "exact_gp", "Exact_GP"])
def test_a_taken_name_of_an_engine_is_refused(name):
    """However it is spelled, as engines are found in any spelling."""
    with pytest.raises(ValueError, match=r"cannot be registered: its name .* is that of inference"):
        register_engine(foreign(bdl.NUTS, name))


def test_auto_is_no_name_of_an_engine():
    with pytest.raises(ValueError, match="'auto' leaves the choice to bayesdl"):
        register_engine(foreign(bdl.NUTS, "Mine", cli_name="auto"))


def test_a_class_that_is_defined_again_takes_the_place_of_the_first():
    """As in a notebook whose cell runs twice."""
    for _ in range(2):
        mine = register_engine(foreign(bdl.NUTS, "Mine"))
    assert engine_class("mine") is mine
    assert sum(engine.__name__ == "Mine" for engine in ENGINES) == 1
