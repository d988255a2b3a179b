"""Progress bars in a notebook that has no ipywidgets."""

import importlib.util
import subprocess
import sys

import pytest

NOTEBOOK = """
import sys, types, warnings
kernel = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython"].get_ipython = lambda: kernel
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import bayesdl
    from inference.core.progress import Bar
    bar = Bar()
    bar.start(3, "steps")
    bar.advance(3)
    bar.close()
print([str(one.message) for one in caught if "tqdm" in one.category.__name__.lower()])
"""


@pytest.mark.skipif(
    importlib.util.find_spec("ipywidgets") is not None, reason="ipywidgets is there"
)
def test_no_warning_in_a_notebook_without_ipywidgets():
    run = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
    assert "steps" in run.stderr
