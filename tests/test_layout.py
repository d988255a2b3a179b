"""The house rules that keep rooms apart: sizes, circles, switches on kinds, types and prose."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import bayesdl as bdl
from bayesdl import engines
from tools import measure_house

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bayesdl", "inference")

# Shared code does not ask what a model, engine, result or structure is. These lines may: they
# check what a user or a plug-in passed, or recognise a Gaussian process's own covariance.
MAY_ASK = {
    "bayesdl/checks/prior.py": "AbstractGaussianProcessRegression",
    "bayesdl/engines.py": "AbstractEngine",
    "bayesdl/model/program.py": "AbstractModel",
    "bayesdl/models.py": "AbstractModel",
}
# A docstring that begins like this continues the function's name instead of saying a sentence.
FRAGMENT = re.compile(r"(Of|By|For|From|In|To|As|With|At|Where|Which|That) ")


def files():
    return [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def functions():
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield path.relative_to(ROOT), node


def test_few_files_in_a_folder():
    doors = list((ROOT / "bayesdl").glob("*.py"))
    assert len(doors) <= 10, doors
    for folder in {path.parent for path in files()}:
        inside = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(inside) <= 12, folder


def test_files_and_lines_are_short():
    for path in files():
        lines = path.read_text().splitlines()
        assert len(lines) <= 400, path
        assert max(map(len, lines), default=0) <= 100, path


def test_no_circles_of_imports():
    """Neither at run time, nor for type checkers, nor through imports inside functions."""
    from tools.import_graph import WAYS

    for way in WAYS:
        assert not measure_house.circles(ROOT, way), way


def test_shared_code_does_not_ask_for_kinds():
    for switch in measure_house.kind_switches(ROOT):
        allowed = MAY_ASK.get(str(switch.path))
        assert allowed, f"{switch.path}:{switch.line}: {switch.text}"
        assert allowed in switch.text


def test_parameters_say_what_they_take():
    assert measure_house.bare_any_share(ROOT) < 8


def test_the_posterior_has_few_verbs():
    assert len(measure_house.posterior_methods(ROOT)) <= 16


def test_docstrings_begin_with_a_verb_or_a_noun():
    found = [
        f"{path}:{node.lineno} {node.name}: {doc.splitlines()[0]}"
        for path, node in functions()
        if (doc := ast.get_docstring(node)) and FRAGMENT.match(doc)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", sorted(engines.__all__))
def test_every_setting_of_an_engine_is_documented(name):
    cls = getattr(engines, name)
    if not (inspect.isclass(cls) and dataclasses.is_dataclass(cls)):
        return
    documentation = inspect.getdoc(cls)
    for field in dataclasses.fields(cls):
        assert re.search(rf"\b{field.name}\b", documentation), f"{name}.{field.name}"


def test_paths_that_contributing_cites_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    cited = set(re.findall(r"`((?:bayesdl|inference|tests|benchmarks|tools)/[\w./]*)", text))
    assert len(cited) > 20
    assert {path for path in cited if "*" not in path and not (ROOT / path).exists()} == set()


def test_the_measure_of_public_names_counts_all_of_them():
    assert sorted(measure_house.public_names(ROOT)) == sorted(bdl.__all__)
