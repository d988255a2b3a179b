"""The catalogue of programs x engines x verbs: right, or refused in words, and nothing else."""

import importlib.util

import pytest
from program_checks import ENGINES, outcomes
from programs import CASES

# one of each kind of program; the others are slow
QUICK = {("line", "Laplace")}
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


@pytest.mark.parametrize(("case", "engine"), ALL)
def test_each_verb_is_right_or_refused_in_words(case, engine, tmp_path):
    if case.needs is not None and importlib.util.find_spec(case.needs) is None:
        pytest.skip(f"{case.needs} is not installed")
    found = outcomes(case, engine, tmp_path)
    wrong = {verb: said for verb, said in found.items() if said not in ("right", "refused", "-")}
    assert not wrong
