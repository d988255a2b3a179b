"""Types as a user sees them: pyright in its standard mode takes the README and the tutorials."""

import ast
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bayesdl as bdl

ROOT = Path(__file__).parents[2]
PYRIGHT = Path(sys.executable).with_name("pyright")

# A user's own file: what is known of results, and words that a setting does not have.
USER = """
from typing import assert_type

import numpy as np

import bayesdl as bdl

X, y = np.zeros((5, 2)), np.zeros(5)
post = bdl.fit(bdl.BNN(activation="relu"), X, y, engine=bdl.NUTS(start="prior"))
pred = post.predict(X)
assert_type(pred.mean, np.ndarray)
assert_type(pred.probs, np.ndarray)
assert_type(post.score(X, y)["rmse"], float)
assert_type(bdl.sklearn.BayesRegressor().fit(X, y).predict(X), np.ndarray)
print(post.raw.stats["diverging"].sum(), bdl.plots.trace(post), bdl.sparse.report(post).active)

gp = bdl.GP(bdl.kernels.RBF())
print(bdl.match_prior(bdl.BNN(), to=gp, inputs=X).weight)
family = bdl.priors.LayerHierarchical()
assert_type(
    bdl.match_prior(bdl.BNN(), to=gp, inputs=X, family=family), bdl.priors.LayerHierarchical
)
print(bdl.match_prior(bdl.BNN(), to=gp, inputs=X, family=bdl.priors.LayerGaussian()).weight)

bdl.BNN(activation="rleu")  # wrong
bdl.NUTS(chain_method="paralell")  # wrong
bdl.SSVI(growth="gradients")  # wrong
bdl.FunBaT(("a", "b"), form="tuker")  # wrong
post.predicts(X)  # wrong
pred.meen  # wrong
"""

# Errors that are about other libraries, by their messages, and what is wrong there.
OTHERS = {
    r'"summary" is not exported from module "arviz_stats"': "it is, but by a star import",
    r'"round_to" of type "int" in function "summary"': 'ArviZ takes "none" too, and declares int',
    r"Invalid conditional operand of type .*Self@Series": "pandas: an entry of a Series",
}
# NumPyro declares that `sample` and `param` return `ArrayLike` or None; both return what they are
# given. So nothing is said of statements that call them.
NUMPYRO = re.compile(r"numpyro\.(sample|param)\(")


def closed_choices():
    """The words of each alias of a `Literal` in the modules of types, by its name."""
    found = {}
    for path in (ROOT / "bayesdl" / "typing.py", ROOT / "inference" / "core" / "typing.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.value).startswith("Literal["):
                words = ast.literal_eval(ast.unparse(node.value).removeprefix("Literal"))
                found[ast.unparse(node.target)] = words
    return found


def fields_of_a_choice():
    """Each setting of an engine, a model or a prior that is one of some words."""
    choices = closed_choices()
    classes = [getattr(bdl, name) for name in (*bdl.engines.__all__, "BNN", "FunBaT", "ConvNet")]
    for cls in (*classes, bdl.priors.Hierarchical):
        for field in dataclasses.fields(cls):
            if str(field.type) in choices:
                yield pytest.param(cls, field.name, choices[str(field.type)])


REQUIRED = {bdl.FunBaT: {"modes": ("a", "b")}, bdl.ConvNet: {"image": (8, 8)}}


@pytest.mark.parametrize(("cls", "name", "words"), tuple(fields_of_a_choice()))
def test_type_checkers_know_the_words_that_a_setting_takes(cls, name, words):
    """And a wrong one is refused by our own error, which lists all of them."""
    with pytest.raises(ValueError, match="expected") as error:
        cls(**REQUIRED.get(cls, {}), **{name: "nonsense"})
    assert set(re.findall(r"'([^']+)'", str(error.value))) - {"nonsense"} == set(words)


def statement_at(source, line):
    """The text of the smallest statement that has this line, counted from 0."""
    around = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and node.lineno <= line + 1 <= (node.end_lineno or 0)
    ]
    inner = max(around, key=lambda node: (node.lineno, -(node.end_lineno or 0)))
    return ast.get_source_segment(source, inner) or ""


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """The errors in each file that are about bayesdl, as "line: message"."""
    if not PYRIGHT.exists():
        pytest.skip("pyright is not installed")
    folder = tmp_path_factory.mktemp("user")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    sources = {"README": "\n".join(blocks), "user": USER}
    # a module's name cannot begin with a digit
    for script in sorted((ROOT / "tutorials").glob("*.py")):
        sources[f"tutorial_{script.stem}"] = script.read_text()
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    shutil.copytree(ROOT / "tests" / "use" / "typings", folder / "typings")
    environment = Path(sys.prefix)
    config = {
        "typeCheckingMode": "standard",
        "include": ["*.py"],
        "venvPath": str(environment.parent),
        "venv": environment.name,
        "extraPaths": [str(ROOT)],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    run = subprocess.run(
        [PYRIGHT, "--project", folder, "--outputjson"], capture_output=True, text=True, check=False
    )
    found = {name: [] for name in sources}
    for error in json.loads(run.stdout)["generalDiagnostics"]:
        name, line = Path(error["file"]).stem, error["range"]["start"]["line"]
        message = error["message"]
        about_others = any(re.search(pattern, message) for pattern in OTHERS)
        if error["severity"] != "error" or about_others:
            continue
        if not NUMPYRO.search(statement_at(sources[name], line)):
            found[name].append(f"{line + 1}: {message}")
    return found


@pytest.mark.slow
def test_pyright_takes_the_readme_and_the_tutorials(errors):
    assert {name: lines for name, lines in errors.items() if lines and name != "user"} == {}


@pytest.mark.slow
def test_pyright_knows_what_results_hold_and_which_words_settings_take(errors):
    wrong = [i for i, line in enumerate(USER.splitlines(), 1) if line.endswith("# wrong")]
    assert {int(error.split(":")[0]) for error in errors["user"]} == set(wrong), errors["user"]
