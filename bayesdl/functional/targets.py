"""Targets: distributions that draw functions, without noise, at given inputs."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from bayesdl.data.validation import ModelError
from bayesdl.functional.noise import NoiseHandler
from bayesdl.gp import kernels
from bayesdl.gp.hyperparameters import sample_hyperparameter
from bayesdl.gp.spec import GP
from inference.core.keys import parallel_keys, tagged_key

# functions drawn together, and how often in one compiled call
FUNCTIONS_AT_ONCE, SETS_AT_ONCE = 64, 40
# kernels in a sum for whose hyperparameters there is noise; those of further ones use keys
HYPERPARAMETER_ROOM = 4
# the jitters that are tried, relative to the mean variance, are powers of ten from first to last
FIRST_JITTER, NUM_JITTERS = 1e-10, 7
LAST_JITTER = FIRST_JITTER * 10.0 ** (NUM_JITTERS - 1)


class AbstractTarget(abc.ABC):
    """A distribution over functions.

    Attributes:
        jitter: the largest jitter that a Cholesky factor needed so far, relative to the mean
            variance.
    """

    jitter = 0.0

    @abc.abstractmethod
    def draw(self, key: jax.Array, X: np.ndarray, num: int) -> np.ndarray:
        """Draw functions at sets of points.

        Args:
            key: the key of all draws.
            X: the sets of points, shape (sets, points, ...).
            num: the number of functions of each set.

        Returns:
            The functions, shape (sets, num, points, outputs).
        """


class GPTarget(AbstractTarget):
    """f ~ GP(0, k), its hyperparameters drawn anew for each function.

    Outputs are independent given the hyperparameters.

    Args:
        kernel: a kernel of `bayesdl.kernels`.
        num_outputs: the number of outputs of a function.
    """

    def __init__(self, kernel: kernels.AbstractKernel, num_outputs: int) -> None:
        self.kernel, self.num_outputs = kernel, num_outputs

    def draw(self, key: jax.Array, X: np.ndarray, num: int) -> np.ndarray:
        pieces = -(-num // FUNCTIONS_AT_ONCE)
        sets = np.repeat(X.reshape(*X.shape[:2], -1), pieces, axis=0)
        found, total = [], len(sets)
        with jax.enable_x64(True):
            for first in range(0, total, SETS_AT_ONCE):
                # the last call takes some sets again, as all calls share one shape
                some = sets[(first + np.arange(SETS_AT_ONCE)) % total]
                keys = jax.random.split(jax.random.fold_in(key, first), SETS_AT_ONCE)
                functions, jitter = _draw_gp_functions(
                    self.kernel, self.num_outputs, keys, jnp.asarray(some, jnp.float64)
                )
                found.append(np.asarray(functions))
                self.jitter = max(self.jitter, float(jitter))
        functions = np.concatenate(found)[:total].reshape(
            len(X), pieces * FUNCTIONS_AT_ONCE, X.shape[1], -1
        )[:, :num]
        _check_finite(functions, f"the kernel matrix of {self.kernel}")
        return functions


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw_gp_functions(
    kernel: kernels.AbstractKernel, num_outputs: int, keys: jax.Array, X: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw `FUNCTIONS_AT_ONCE` functions at each set of points, in double precision.

    Returns:
        The functions, and the largest jitter.
    """

    def one(X: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = len(X) * num_outputs
        noise = jax.random.normal(
            tagged_key(key, "noise"), (size + HYPERPARAMETER_ROOM * (1 + X.shape[1]),)
        )
        with NoiseHandler(noise[size:], key):
            built = kernel.build(sample_hyperparameter, "kernel.", X.shape[1])
        lower, jitter = cholesky_with_jitter(built(X, X))
        return lower @ noise[:size].reshape(len(X), num_outputs), jitter

    def one_set(set_and_key: tuple) -> tuple:
        X, key = set_and_key
        return jax.vmap(functools.partial(one, X))(parallel_keys(key, (FUNCTIONS_AT_ONCE,)))

    functions, jitter = jax.lax.map(one_set, (X, keys))
    return functions, jitter.max()


def cholesky_with_jitter(K: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return a Cholesky factor with the first jitter that makes it finite, and that jitter.

    The jitters tried are powers of ten.
    """
    size = jnp.eye(len(K)) * jnp.mean(jnp.diag(K))

    def fails(state: tuple) -> jax.Array:
        return ~jnp.isfinite(state[0]).all() & (state[1] + 1 < NUM_JITTERS)

    def climb(state: tuple) -> tuple:
        rung = state[1] + 1
        return jnp.linalg.cholesky(K + FIRST_JITTER * 10.0**rung * size), rung

    # most kernel matrices are singular to rounding, so that the first rung is not 0
    lower, rung = jax.lax.while_loop(
        fails, climb, (jnp.linalg.cholesky(K + FIRST_JITTER * size), jnp.asarray(0))
    )
    return lower, FIRST_JITTER * 10.0**rung


@functools.partial(jax.jit, static_argnums=0)
def _draw_normal_functions(
    shape: tuple[int, ...], key: jax.Array, mean: jax.Array, covariance: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw normal functions with a mean and a covariance, and return the jitter too."""
    lower, jitter = cholesky_with_jitter(covariance)
    return mean[None, :, None] + lower[None] @ jax.random.normal(key, shape), jitter


class GPyTorchTarget(AbstractTarget):
    """The prior of a GPyTorch kernel or exact GP model, with its hyperparameters as they are.

    Args:
        module: the kernel or model of GPyTorch.
        num_outputs: the number of independent outputs.
    """

    def __init__(self, module: Any, num_outputs: int) -> None:
        from bayesdl.interop.gpytorch import to_double

        self.module, self.num_outputs = to_double(module), num_outputs

    def draw(self, key: jax.Array, X: np.ndarray, num: int) -> np.ndarray:
        from bayesdl.interop.gpytorch import prior_moments

        found = []
        for points, set_key in zip(X, jax.random.split(key, len(X)), strict=True):
            mean, covariance = prior_moments(self.module, points.reshape(len(points), -1))
            with jax.enable_x64(True):
                values, jitter = _draw_normal_functions(
                    (num, len(points), self.num_outputs), set_key, mean, covariance
                )
                found.append(np.asarray(values))
            self.jitter = max(self.jitter, float(jitter))
        functions = np.stack(found)
        _check_finite(functions, f"the covariance of {type(self.module).__name__}")
        return functions


class CallableTarget(AbstractTarget):
    """Functions drawn by a callable.

    Args:
        function: a function (key, X, num) -> functions, shape (num, points) or
            (num, points, outputs).
        num_outputs: the number of outputs of network and functions.
    """

    def __init__(self, function: Callable, num_outputs: int) -> None:
        self.function, self.num_outputs = function, num_outputs

    def draw(self, key: jax.Array, X: np.ndarray, num: int) -> np.ndarray:
        found = []
        for points, set_key in zip(X, jax.random.split(key, len(X)), strict=True):
            values = np.asarray(self.function(set_key, points, num), float)
            values = values[..., None] if values.ndim == 2 else values
            expected = (num, len(points), self.num_outputs)
            if values.shape != expected:
                raise ModelError(
                    f"The target gave functions of shape {values.shape}, expected {expected}: "
                    "(functions, points, outputs)."
                )
            found.append(values)
        functions = np.stack(found)
        if not np.isfinite(functions).all():
            raise ModelError("The target gave functions with values that are not finite.")
        return functions


def _check_finite(functions: np.ndarray, what: str) -> None:
    """Refuse functions of a matrix that had no Cholesky factor.

    Args:
        functions: the functions.
        what: the name of the matrix, in words.

    Raises:
        ModelError: with the jitter that did not help.
    """
    if not np.isfinite(functions).all():
        raise ModelError(
            f"Functions cannot be drawn: {what} is not positive semi-definite, even with "
            f"{LAST_JITTER:g} of its mean variance added to the diagonal. Check the kernel and its "
            "hyperparameters."
        )


def as_target(to: object, num_inputs: int, num_outputs: int, standardize: bool) -> AbstractTarget:
    """Make a target from a Gaussian process, a kernel, or a callable that draws functions.

    Args:
        to: a `GP`, a kernel of bayesdl, tinygp or GPyTorch, a GP model of GPyTorch, or a callable.
        num_inputs: the number of inputs.
        num_outputs: the number of outputs.
        standardize: whether the network's inputs are standardised.

    Raises:
        ModelError: where the target does not fit these inputs.
        TypeError: for anything else.
    """
    kernel = to
    if isinstance(to, GP):
        if to.standardize != standardize:
            raise ModelError(
                f"The target has standardize={to.standardize} and the network "
                f"standardize={standardize}: their inputs would have different units. Give both "
                "the same."
            )
        kernel = to.kernel
    if any(cls.__module__.partition(".")[0] == "tinygp" for cls in type(kernel).__mro__):
        kernel = kernels.as_kernel(kernel)
    if isinstance(kernel, kernels.AbstractKernel):
        _check_dimension(kernel, num_inputs)
        return GPTarget(kernel, num_outputs)
    if any("gpytorch" in cls.__module__ for cls in type(to).__mro__):
        return GPyTorchTarget(to, num_outputs)
    if callable(to):
        return CallableTarget(to, num_outputs)
    raise TypeError(
        f"to={to!r}: expected bdl.GP(...), a kernel of bayesdl, tinygp or GPyTorch, or a function "
        "of (key, X, num) that draws functions."
    )


def _check_dimension(kernel: kernels.AbstractKernel, num_inputs: int) -> None:
    """Refuse a kernel of another dimension than the inputs.

    Raises:
        ModelError: naming the kernel and the number of inputs.
    """
    try:
        with handlers.seed(rng_seed=0):
            jax.eval_shape(
                lambda X: kernel.build(sample_hyperparameter, "kernel.", num_inputs)(X, X),
                jnp.zeros((2, num_inputs)),
            )
    except ModelError:
        raise
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"The kernel {kernel} does not take {num_inputs} inputs: {error}"
        ) from None
