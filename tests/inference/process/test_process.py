"""Threads, warnings and attributes: what is done in one thread is not seen in another."""

import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

import inference.core  # noqa: F401 - gives threads their own handlers
from inference.core.enumeration.handlers import enumerated_plates
from inference.process.cached import cached
from inference.process.quiet import quiet, quiet_logger


def elsewhere(function):
    """Call a function in another thread, and return what it returns."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def normal():
    with numpyro.plate("rows", 3):
        return numpyro.sample("x", dist.Normal())


def test_a_thread_does_not_see_the_handlers_of_another():
    with handlers.seed(rng_seed=0), handlers.trace() as here:
        drawn = elsewhere(lambda: normal_of(1))
        own = normal()
    assert list(here) == ["rows", "x"] and here["x"]["value"] is own
    assert (drawn == normal_of(1)).all() and not (drawn == own).all()


def normal_of(seed):
    return handlers.trace(handlers.seed(normal, jax.random.key(seed))).get_trace()["x"]["value"]


def test_handlers_stay_active_when_a_list_of_before_is_replaced(monkeypatch):
    from numpyro import primitives

    from inference.process import threads

    shared = [handlers.seed(rng_seed=0)]
    for module in (primitives, handlers):
        monkeypatch.setattr(module, "_PYRO_STACK", shared)
    threads.give_threads_their_own_handlers()
    assert primitives._PYRO_STACK is handlers._PYRO_STACK is not shared
    assert list(primitives._PYRO_STACK) == shared
    assert elsewhere(lambda: len(primitives._PYRO_STACK)) == 0


def test_an_error_leaves_no_handler_behind():
    from numpyro import primitives

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        handlers.trace(handlers.seed(fail, jax.random.key(0))).get_trace()
    assert len(primitives._PYRO_STACK) == 0


def test_plates_that_are_enumerated_are_those_of_one_thread():
    pytest.importorskip("funsor")

    def make():
        with handlers.seed(rng_seed=0):
            return type(numpyro.plate("rows", 3)).__module__

    with enumerated_plates():
        assert "funsor" in make() and "funsor" not in elsewhere(make)
    assert "funsor" not in make()


def test_warnings_are_silenced_in_one_thread():
    before = list(warnings.filters)
    with quiet() as said:
        warnings.warn("here", stacklevel=1)
        with pytest.raises(UserWarning, match="there"):
            elsewhere(lambda: warnings.warn("there", stacklevel=1))
    assert said == ["here"] and list(warnings.filters) == before
    with pytest.raises(UserWarning), quiet(DeprecationWarning, message="her"):
        warnings.warn("here", UserWarning, stacklevel=1)


def test_filters_are_those_of_before_after_blocks_that_overlap():
    before, entered, left = list(warnings.filters), threading.Event(), threading.Event()

    def other():
        with quiet():
            entered.set()
            left.wait()

    with ThreadPoolExecutor(1) as pool:
        with quiet():
            running = pool.submit(other)
            entered.wait()
        left.set()
        running.result()
    assert list(warnings.filters) == before


def test_a_block_inside_of_catch_warnings_leaves_nothing():
    before = list(warnings.filters)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("error")
    assert list(warnings.filters) == before


def test_a_logger_is_silenced_in_one_thread(caplog):
    log = logging.getLogger("some")
    with quiet_logger("some"):
        log.warning("here")
        elsewhere(lambda: log.warning("there"))
    log.warning("after")
    assert [record.message for record in caplog.records] == ["there", "after"]


def test_threads_get_one_value_and_do_not_wait_for_each_other():
    both = threading.Barrier(2, timeout=10)

    class Slow:
        @cached
        def value(self):
            both.wait()
            return object()

    slow = Slow()
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: slow.value, range(2))
    assert one is other is slow.value
