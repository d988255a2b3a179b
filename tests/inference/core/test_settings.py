"""Settings of specs: NumPy's numbers are numbers, only truth is true, absurd ones are refused."""

import dataclasses
import json

import numpy as np
import pytest

import bayesdl as bdl
from bayesdl.saving.serialization import registry, to_data
from inference.settings import AbstractSettings

ENGINES = [cls for name, cls in registry().items() if name.startswith("engines.")]


def fields_of(kind):
    """Return (class, field, default) for each field of engines with this annotation."""
    return [
        pytest.param(cls, field.name, field.default, id=f"{cls.__name__}.{field.name}")
        for cls in ENGINES
        for field in dataclasses.fields(cls)
        if str(field.type) == kind
    ]


@pytest.mark.parametrize("cls, name, default", fields_of("int"))
def test_whole_numbers_of_numpy_are_whole_numbers(cls, name, default):
    for kind in (np.int64, np.int32, np.uint8 if default < 256 else np.uint16):
        made = cls(**{name: kind(default)})
        assert made == cls()
        assert type(getattr(made, name)) is int
        assert json.loads(json.dumps(to_data(made))) == to_data(cls())


@pytest.mark.parametrize(
    "value", [True, np.True_, 1.5, np.nan, np.inf, None, "10", 10**12, -(10**12)]
)
@pytest.mark.parametrize("cls, name, default", fields_of("int"))
def test_anything_else_is_no_whole_number(cls, name, default, value):
    with pytest.raises(ValueError, match="expected"):
        cls(**{name: value})


@pytest.mark.parametrize("value", [True, np.nan, -np.inf, np.float32(np.inf), None, "fast", 1e300])
@pytest.mark.parametrize("cls, name, default", fields_of("float"))
def test_numbers_are_finite(cls, name, default, value):
    with pytest.raises(ValueError, match="expected"):
        cls(**{name: value})


@pytest.mark.parametrize("value", [1, 0, "yes", "False", None, np.int64(1), np.nan])
@pytest.mark.parametrize("cls, name, default", fields_of("bool"))
def test_truth_values_are_true_or_false(cls, name, default, value):
    with pytest.raises(ValueError, match="expected True or False"):
        cls(**{name: value})
    for truth in (True, False):
        try:
            plain = cls(**{name: truth})
        except ValueError:  # with the other settings as they are
            continue
        made = cls(**{name: np.bool_(truth)})
        assert made == plain and type(getattr(made, name)) is bool


def test_models_priors_and_likelihoods_too():
    assert bdl.BNN(hidden=(np.int64(4),)) == bdl.BNN(hidden=(4,))
    assert type(bdl.BNN(hidden=(np.int64(4),)).hidden[0]) is int
    assert bdl.priors.Gaussian(np.float64(2.0)) == bdl.priors.Gaussian(2.0)
    assert bdl.priors.Gaussian(np.float32(2.0)) == bdl.priors.Gaussian(2.0)
    assert bdl.Normal(np.array(0.5)) == bdl.Normal(0.5)
    assert bdl.tensor.Mode("day", rank=np.int64(3)).rank == 3
    for refused in (
        lambda: bdl.BNN(standardize="yes"),
        lambda: bdl.GP(standardize=1),
        lambda: bdl.kernels.RBF(np.inf),
        lambda: bdl.kernels.RBF(True),
        lambda: bdl.kernels.RBF(ard="no"),
        lambda: bdl.priors.Gaussian(1e200),
        lambda: bdl.priors.StudentT(df=np.nan),
        lambda: bdl.Normal(np.nan),
        lambda: bdl.BNN(hidden=(True,)),
        lambda: bdl.BNN(hidden=(2.0,)),
    ):
        with pytest.raises(ValueError, match="expected"):
            refused()


def test_settings_of_plug_ins_are_read_too():
    @dataclasses.dataclass(frozen=True)
    class Own(AbstractSettings):
        draws: int = 3

        def __post_init__(self):
            assert self.draws > 0  # it sees a plain number, and calls nothing of the base class

    assert type(Own(np.int64(5)).draws) is int
    with pytest.raises(ValueError, match=r"Own\(draws=True\): expected a whole number"):
        Own(True)
