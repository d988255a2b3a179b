"""The house rules that keep rooms apart: sizes, circles, switches on kinds, types and prose."""

import ast
import builtins
import dataclasses
import inspect
import keyword
import re
from pathlib import Path

import pytest

import bayesdl as bdl
from bayesdl import engines
from tools import measure_house

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bayesdl", "inference")

# Shared code does not ask what a model, engine, result or structure is. These lines may: they
# check what a user or a plug-in passed, recognise a Gaussian process's own covariance, or match the
# priors of networks (which only `BNN` has).
MAY_ASK = {
    "bayesdl/checks/prior.py": [
        "process = structure if isinstance(structure, AbstractGaussianProcessRegression) else None",
    ],
    "bayesdl/engines.py": ["if isinstance(engine, AbstractEngine):"],
    "bayesdl/functional/match.py": [
        "if isinstance(family, AbstractPrior) and family.instead_of_matching:",
        "if not isinstance(family, AbstractFamily):",
        "if not isinstance(net, MLP) or not isinstance(family, AbstractLayerFamily):",
    ],
    "bayesdl/functional/problem.py": ["if not isinstance(model, BNN):"],
    "bayesdl/functional/targets.py": [
        "if isinstance(to, GP):",
        "if isinstance(kernel, kernels.AbstractKernel):",
    ],
    "bayesdl/model/likelihoods.py": ["if isinstance(value, AbstractLikelihood):"],
    "bayesdl/model/program.py": ["if isinstance(model, AbstractModel):"],
    "bayesdl/models.py": ["if issubclass(_class, AbstractModel):"],
}
# The percentage of parameters that are `Any`, by this or another name.
MOST_ANY = 5.2
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


def test_files_of_tests_have_names_of_their_own():
    # Files of tests stand in no packages, so two of one name cannot be collected together.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert [name for name in sorted(set(names)) if names.count(name) > 1] == []


def test_no_circles_of_imports():
    """Neither at run time, nor for type checkers, nor through imports inside functions."""
    from tools.import_graph import WAYS

    for way in WAYS:
        assert not measure_house.circles(ROOT, way), way


def test_shared_code_does_not_ask_for_kinds():
    found: dict[str, list[str]] = {}
    for switch in measure_house.kind_switches(ROOT):
        found.setdefault(str(switch.path), []).append(switch.text)
    assert found == MAY_ASK


def test_parameters_say_what_they_take():
    """What it was when this was written: it may fall."""
    assert measure_house.bare_any_share(ROOT) < MOST_ANY


def test_messages_are_not_broken_anyhow():
    """A piece of a message without a placeholder is no f-string."""
    piece = re.compile(r'^\s*f"[^"{]*"')
    found = [
        f"{path}:{number}"
        for path in files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if piece.match(line)
    ]
    assert not found, found


def test_the_posterior_has_few_verbs():
    assert len(measure_house.posterior_methods(ROOT)) <= 20


def test_docstrings_begin_with_a_verb_or_a_noun():
    found = [
        f"{path}:{node.lineno} {node.name}: {doc.splitlines()[0]}"
        for path, node in functions()
        if (doc := ast.get_docstring(node)) and FRAGMENT.match(doc)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("cls", [*engines.ENGINES, bdl.PFN], ids=lambda cls: cls.__name__)
def test_every_setting_of_an_engine_is_documented(cls):
    _, _, attributes = inspect.getdoc(cls).partition("Attributes:\n")
    for field in dataclasses.fields(cls):
        assert re.search(rf"^    {field.name}: ", attributes, re.MULTILINE), field.name


def test_paths_that_contributing_cites_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    cited = set(re.findall(r"`((?:bayesdl|inference|tests|benchmarks|tools)/[\w./]*)", text))
    assert len(cited) > 20
    assert {path for path in cited if "*" not in path and not (ROOT / path).exists()} == set()


def test_the_measure_of_public_names_counts_all_of_them():
    assert sorted(measure_house.public_names(ROOT)) == sorted(bdl.__all__)


def test_old_names_warn_in_one_way():
    by_hand = re.compile(r"warnings\.warn\([^()]*DeprecationWarning")
    found = [path.name for path in files() if by_hand.search(path.read_text())]
    assert found in ([], ["renaming.py"])


def test_names_in_docstrings_exist():
    """What stands between backticks is defined or used somewhere, or is a file of the package."""
    foreign = {
        "clone",
        "distributed",
        "idx",
        "odeint",
        "random_flax_module",
        "subsample",
        "subsample_size",
    }
    known = foreign | {*keyword.kwlist, *dir(builtins), "safetensors", "Predictive"}
    trees = {path: ast.parse(path.read_text()) for path in files()}
    for path, tree in trees.items():
        known |= {path.stem, path.parent.name}
        for node in ast.walk(tree):
            known |= set(_words_of(node))
    missing = [
        f"{path.relative_to(ROOT)}: `{name}`"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
        for name in re.findall(r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`", ast.get_docstring(node) or "")
        if name.removesuffix(".py").split(".")[-1] not in known
    ]
    assert not missing, "\n".join(missing)


def _words_of(node):
    """The names that a node defines or uses."""
    for field in ("id", "attr", "arg", "name", "asname"):
        if isinstance(value := getattr(node, field, None), str):
            yield from value.split(".")
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        yield node.value
