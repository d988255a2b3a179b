"""The program of a Bayesian neural network, and what it offers to engines that use its layers."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bayesdl.bnn.networks import AbstractNetwork
from bayesdl.model.language import NUMPYRO, Language, Tensor
from bayesdl.model.likelihoods import AbstractLikelihood
from bayesdl.priors.base import AbstractPrior, WeightArray
from inference.core.program import unwrap
from inference.core.structure import AbstractProduct, LayeredNetwork
from inference.core.typing import Program, SiteArrays


def network_program(
    net: AbstractNetwork,
    prior: AbstractPrior,
    likelihood: AbstractLikelihood,
    X: Tensor,
    y: Tensor | None,
    num_targets: int,
    lang: Language,
    around: dict[str, ArrayLike] | None,
    product: AbstractProduct,
    shift: ArrayLike | None = None,
) -> None:
    """Run the program w ~ p(w), f = f(x; w), y ~ p(y | f) in a modelling language.

    Args:
        net: the network f.
        prior: the prior p(w).
        likelihood: the likelihood p(y | f).
        X: the rows of inputs, shape (rows, ...).
        y: the targets, shape (rows,) or (rows, num_targets); None draws them.
        num_targets: the number of target columns, or of classes.
        lang: the modelling language.
        around: values of the weights around which the network is linearised, or None.
        product: how the network multiplies by its weights.
        shift: what is added to the outputs, shape (rows, outputs), or None.
    """
    # torch's tracer gives sizes as tensors
    num_inputs = int(X.shape[-1])
    arrays = net.weight_arrays(num_inputs, likelihood.num_outputs(num_targets))
    weights = prior.draws(arrays, lang)
    parameters = likelihood.parameters(num_targets, lang)
    with lang.plate("rows", X.shape[0]) as rows:
        # a minibatch, which only NumPyro's engines ask for
        if len(rows) < X.shape[0]:
            X, y = jnp.asarray(X)[rows], None if y is None else jnp.asarray(y)[rows]
        f = (
            net.apply(weights, X, lang, product)
            if around is None
            else _linearize(net, weights, around, X)
        )
        f = f if shift is None else f + shift
        lang.sample("y", likelihood.distribution(f, parameters, lang), obs=y)


def _linearize(
    net: AbstractNetwork, weights: dict[str, Tensor], around: dict[str, ArrayLike], X: Tensor
) -> jax.Array:
    """Return f(x; w0) + J(x; w0) (w - w0), with w0 taken from `around`."""
    start = {name: jnp.asarray(around[name], dtype=weights[name].dtype) for name in weights}
    step = {name: weights[name] - start[name] for name in weights}
    outputs, change = jax.jvp(lambda w: net.apply(w, X, NUMPYRO), (start,), (step,))
    return outputs + change


@dataclasses.dataclass(frozen=True)
class NetworkOutputs:
    """The outputs of a network, as a function of the program's sites and of rows of inputs."""

    net: AbstractNetwork
    arrays: tuple[WeightArray, ...]

    def __call__(self, sites: SiteArrays, X: Tensor) -> jax.Array:
        weights = {array.name: sites[array.name] for array in self.arrays}
        return jnp.asarray(self.net.apply(weights, X, NUMPYRO))


def _linearize_program(program: Program, around: dict) -> Program:
    return functools.partial(unwrap(program), around=around)


def _with_product(program: Program, product: AbstractProduct) -> Program:
    return functools.partial(unwrap(program), product=product)


def _in_pyro(program: Program) -> Program:
    from bayesdl.interop.pyro import PYRO

    return functools.partial(unwrap(program), lang=PYRO)


def layered_network(
    net: AbstractNetwork, prior: AbstractPrior, arrays: tuple[WeightArray, ...], in_pyro: bool
) -> LayeredNetwork:
    """Describe the layers of `network_program` to engines that exploit them.

    Args:
        net: the network.
        prior: the prior over its weights.
        arrays: the network's arrays of weights.
        in_pyro: whether Pyro can run the program.
    """
    return LayeredNetwork(
        weights={prior.weight_site(array): array.name for array in arrays},
        scale_per_site=prior.scale_per_array,
        outputs=NetworkOutputs(net, arrays),
        linearize=_linearize_program,
        pyro_program=_in_pyro if in_pyro else None,
        lookups=net.lookups,
        matrices={array.name: array.shape for array in arrays if not array.is_bias},
        with_product=_with_product if net.multiplies else None,
    )
