"""The catalogue of programs x engines x verbs: right, or refused in words, and nothing else.

`programs_page.py` runs all of it and writes `docs/programs.md`.
"""

import importlib.util

import jax
import pytest
from program_checks import ENGINES, is_wrong, outcomes
from programs import CASES

# one of each kind of program, with an engine that is fast; the others are slow
QUICK = {
    ("line", "Laplace"),
    ("no plate", "Laplace"),
    ("mixture", "Laplace"),
    ("masked rows", "Laplace"),
    ("a callable object", "Laplace"),
    ("a column of targets", "VI"),
    ("a parameter", "VI"),
    ("ordered classes", "NUTS"),
}
ALL = [
    pytest.param(
        case,
        engine,
        id=f"{case.name}-{engine}",
        marks=[] if (case.name, engine) in QUICK else [pytest.mark.slow],
    )
    for case in CASES
    for engine in ENGINES
]


def test_quick_cases_are_in_the_catalogue():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {name for name, _ in QUICK} <= set(names)


@pytest.mark.parametrize(("case", "engine"), ALL)
def test_each_verb_is_right_or_refused_in_words(case, engine, tmp_path):
    if case.needs is not None and importlib.util.find_spec(case.needs) is None:
        pytest.skip(f"{case.needs} is not installed")
    # users' programs may add arrays of different ranks, which this project's own code does not
    with jax.numpy_rank_promotion("allow"):
        found = outcomes(case, engine, tmp_path)
    assert not {verb: said for verb, said in found.items() if is_wrong(said)}
