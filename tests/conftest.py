"""Set-up of all tests: two host devices, quick compilation, its cache, strict rank promotion."""

import collections
import gc
import os

# Tests compile far more than they compute: code that is not optimised saves a third of their time.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
)
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.join(os.path.dirname(__file__), "..", ".jax_cache")
)
# Small programs too: each file of tests begins without what the last one compiled.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import matplotlib
import pytest

matplotlib.use("Agg")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the cases slow that `quick_cases` leaves out."""
    seen = collections.Counter()
    for item in items:
        if (mark := item.get_closest_marker("quick_cases")) is not None:
            test = item.nodeid.partition("[")[0]
            seen[test] += not item.get_closest_marker("slow")
            if seen[test] > mark.args[0]:
                item.add_marker("slow")


@pytest.fixture(autouse=True, scope="module")
def room_for_compiled_programs():
    """Each holds mappings of memory, of which a process may have so many: without this XLA crashes
    after some hundred tests.
    """
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(autouse=True)
def precision_stays():
    """A test that leaves JAX in double precision changes the outcome of those after it."""
    before = jax.config.jax_enable_x64
    yield
    after = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", before)
    assert after == before


@pytest.fixture
def reference():
    """Reads reference data, or skips the test where they are absent."""
    from benchmarks import reference_data

    class Reader:
        def __getattr__(self, name):
            def read(*args):
                try:
                    return getattr(reference_data, name)(*args)
                except reference_data.MissingData as error:
                    pytest.skip(str(error))

            return read

    return Reader()
