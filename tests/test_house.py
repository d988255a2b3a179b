"""The house rules: what is imported, what is public, how long files are, and that examples run."""

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bayesdl as bdl
import inference
from bayesdl import engines, models

ROOT = Path(__file__).resolve().parents[1]
LAZY = (
    "torch",
    "pyro",
    "gpytorch",
    "arviz",
    "arviz_base",
    "arviz_stats",
    "pandas",
    "matplotlib",
    "sklearn",
    "xarray",
)


def modules():
    for package in (bdl, inference):
        yield package.__name__
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            yield info.name


def run(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | env,
        check=False,
    )


def test_import_loads_nothing_heavy():
    loaded = "import sys, bayesdl; {}; print([m for m in {} if m in sys.modules])"
    out = run(loaded.format("bayesdl.__version__", ("jax", "numpyro", *LAZY)))
    assert out.stdout.strip() == "[]", out.stdout + out.stderr
    out = run(loaded.format("bayesdl.fit, bayesdl.BNN, bayesdl.NUTS, bayesdl.load", LAZY))
    assert out.stdout.strip() == "[]", out.stdout + out.stderr


def test_import_makes_no_arrays_and_changes_no_settings():
    code = (
        "import jax; before = dict(jax.config.values); import bayesdl; bayesdl.fit, bayesdl.BNN;"
        "assert dict(jax.config.values) == before;"
        "from jax._src import xla_bridge; assert not xla_bridge._backends, 'a backend was started'"
    )
    out = run(code)
    assert out.returncode == 0, out.stderr


def test_a_foreign_inference_package_is_refused(tmp_path):
    (tmp_path / "inference.py").write_text("")
    out = run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import bayesdl")
    assert "pip uninstall inference" in out.stderr


NAMESPACES = (
    *("priors", "kernels", "vi", "plots", "sklearn"),
    *("sparse", "recommend", "amortized", "tensor", "mcmc", "effects"),
)


def public_names(prefix, module):
    """The names that a namespace lists, or its own classes where it lists none."""
    own = [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and not name.startswith(("Abstract", "_"))
    ]
    return [f"{prefix}.{name}" for name in getattr(module, "__all__", own)]


def test_public_names():
    """A change here is a change for users: put it into CHANGELOG.md.

    The file need not list models and engines: they come from `bayesdl.models` and `engines`.
    """
    golden = set((ROOT / "tests" / "golden" / "public_names.txt").read_text().split())
    names = public_names("bayesdl", bdl)
    for name in NAMESPACES:
        names += public_names(f"bayesdl.{name}", importlib.import_module(f"bayesdl.{name}"))
    registered = {f"bayesdl.{name}" for name in (*engines.__all__, *models.__all__)}
    assert sorted(set(names) - registered) == sorted(golden - registered)
    gone = {name for name in golden if not hasattr(bdl, name.split(".")[1])}
    assert not gone, "a name that users may have in their programs"


def test_dir_lists_public_names_alone():
    assert set(dir(bdl)) == {*bdl.__all__, *bdl.LAZY, "__version__"}
    assert all(hasattr(bdl, name) for name in dir(bdl))


def test_public_things_are_documented():
    for name in bdl.__all__:
        value = getattr(bdl, name)
        assert inspect.getdoc(value), name
        if inspect.isclass(value) and not issubclass(value, Exception) and name != "Posterior":
            assert ">>>" in (inspect.getdoc(value) or ""), f"{name} has no example"


def test_classes_are_abstract_or_final():
    for name in modules():
        for label, cls in vars(importlib.import_module(name)).items():
            if inspect.isclass(cls) and cls.__module__ == name:
                for base in cls.__bases__:
                    if base.__module__.startswith(("bayesdl", "inference")):
                        assert base.__name__.startswith("Abstract"), (
                            f"{name}.{label} inherits from {base.__name__}"
                        )


def test_no_pickle_anywhere():
    for folder in ("bayesdl", "inference"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(
                r"\b(pickle|cloudpickle|joblib)\b.*\b(load|dump)|import pickle|allow_pickle=True",
                path.read_text(),
            ), path


# their examples fit or train something; the contract runs the same code
FITS = """plots.predictions plots.checks sparse.torch_module sparse.fitted sparse.costs
    functional.match checks.calibration checks.loo checks.sensitivity checks.predictive sklearn
    mcmc plots.chains amortized.fitted recommend.autoencoder.spec recommend.autoencoder.program
    recommend.models.popularity recommend.models.blend cli.support_table torch.pyro_nuts vi.check
    vi.engine vi.expectation sparse.engine"""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow) if n.partition(".")[2] in FITS.split() else n
        for n in sorted(modules())
    ],
)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


def test_shapes_are_checked_while_testing():
    """Canary: if these stop raising, annotations are no longer checked at run time."""
    from inference.distributions.calibration import expected_calibration_error
    from inference.laplace.curvature import inverse_root

    with pytest.raises(Exception, match=r"[Tt]ype-check error"):
        expected_calibration_error(np.zeros(3), np.zeros(4, bool))
    with pytest.raises(Exception, match=r"[Tt]ype-check error"):
        inverse_root(np.zeros((3, 4)))


def readme_blocks():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


@pytest.mark.slow
def test_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert readme_blocks()
    namespace = {}
    for block in readme_blocks():
        exec(compile(block, "README.md", "exec"), namespace)


def test_the_readme_is_short():
    prose = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(prose.split()) <= 700


def test_links_of_the_readme_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    inside = [target for target in targets if not target.startswith("http")]
    assert len(inside) > 5
    assert [target for target in inside if not (ROOT / target).exists()] == []


def test_table_of_engines_is_made_by_the_code():
    from bayesdl.cli.support_table import with_table

    text = (ROOT / "docs" / "reference" / "engines.md").read_text()
    assert with_table(text) == text, "run `make tables`"


def test_page_of_benchmarks_is_made_from_their_results():
    from benchmarks.page.__main__ import PAGE, page

    assert PAGE.read_text() == page(), "run `make tables`"


def test_the_project_speaks_of_itself_only():
    tracked = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout.split()
    for path in tracked:
        if path.endswith((".py", ".md", ".toml", ".txt", "Makefile")):
            assert not re.search(r"(^|[^A-Za-z0-9])/(work|farm)/", (ROOT / path).read_text()), path
