"""The Bayesian neural network: a prior over weights, a network, a likelihood.

w ~ p(w),    f = f(x; w),    y ~ p(y | f)
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from bayesdl import priors
from bayesdl.bnn.equinox_network import EquinoxNetwork
from bayesdl.bnn.networks import MLP, PLAIN, AbstractNetwork, check_num_outputs
from bayesdl.data.table import TableSchema
from bayesdl.model import likelihoods
from bayesdl.model.examples import CommandLine, Example, rows
from bayesdl.model.language import NUMPYRO, Language
from bayesdl.model.table import AbstractTableModel
from bayesdl.priors.base import AbstractPrior, count_layers, replace_fields, split_numbers
from bayesdl.priors.flow import LOG_SCALES
from inference.core.problem import Problem
from inference.core.structure import AbstractProduct, LayeredNetwork


@dataclasses.dataclass(frozen=True)
class BNN(AbstractTableModel):
    """A Bayesian neural network (MacKay 1992; Neal 1996).

    Args:
        hidden: widths of the hidden layers; () is a linear model.
        activation: "tanh", "relu", "gelu", "silu", "sine" or "erf".
        prior: over the weights, from `bayesdl.priors`.
        likelihood: of the targets.
        scaling: "ntk" divides each layer's sum by sqrt(fan_in), "standard" does not.
        network: `bayesdl.ConvNet(...)`, or an Equinox module mapping one row to the outputs; used instead of `hidden`,
            `activation` and `scaling`, which are refused beside it. Layers of a module are not scaled, so
            `priors.Gaussian(fan_in=True)` is their usual prior.
        standardize: whether inputs (and real targets) are standardised with the training data's mean and sd;
            predictions and log densities are given in the original units. Latent sites refer to standardised data.

    Example:
        >>> model = BNN(hidden=(20,), activation="relu", prior=priors.Laplace())
        >>> model.hidden
        (20,)
    """

    hidden: tuple[int, ...] = (50,)
    activation: str = "tanh"
    prior: AbstractPrior = priors.Gaussian()
    likelihood: likelihoods.AbstractLikelihood = likelihoods.Normal()
    scaling: str = "ntk"
    network: Any = dataclasses.field(default=None, hash=False)  # it holds arrays
    standardize: bool = True
    keeps_numpy: ClassVar[bool] = True

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        import equinox as eqx

        (X, y), network = rows(), eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))
        heavy, matched = priors.Horseshoe(), priors.LayerHierarchical()
        return (
            Example("BNN", cls(hidden=(4,)), (X, y)),
            Example("BNN with an Equinox network", cls(network=network), (X, y)),
            Example("BNN with a heavy-tailed prior", cls(hidden=(4,), prior=heavy), (X, y)),
            Example("BNN with a matched prior", cls(hidden=(4,), prior=matched), (X, y)),
        )

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        choices, linear = {"prior": priors}, {"hidden": (), "activation": "tanh", "network": None}
        return (
            CommandLine("bnn", cls, "a neural network", choices, {"network": None}),
            CommandLine("linear", cls, "", choices, linear),
        )

    def __post_init__(self) -> None:
        if isinstance(self.hidden, int):
            raise ValueError(
                f"BNN(hidden={self.hidden}): expected a tuple of widths, e.g. ({self.hidden},)."
            )
        for name, kind in (
            ("likelihood", likelihoods.AbstractLikelihood),
            ("prior", AbstractPrior),
        ):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(
                    f"BNN({name}={getattr(self, name)!r}): expected an object, e.g. {getattr(BNN, name)!r}."
                )
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.network is not None:
            self._refuse_settings_beside_network()
        _ = self.net  # validates the settings

    def _refuse_settings_beside_network(self) -> None:
        defaults = {
            f.name: f.default
            for f in dataclasses.fields(self)
            if f.name in ("hidden", "activation", "scaling")
        }
        for name, default in defaults.items():
            if getattr(self, name) != default:
                raise ValueError(
                    f"BNN({name}={getattr(self, name)!r}, network=...): expected no {name} beside a network, which has its "
                    f"own. Leave out {name}, or network."
                )

    @property
    def net(self) -> AbstractNetwork:
        """The network as a function of its weights."""
        if self.network is None:
            return MLP(self.hidden, self.activation, self.scaling)
        if isinstance(self.network, AbstractNetwork):
            return self.network
        return EquinoxNetwork(self.network)

    def with_prior(self, prior: AbstractPrior) -> BNN:
        """The same network and likelihood under another prior."""
        return dataclasses.replace(self, prior=prior)

    def program(
        self,
        X: Any,
        y: Any = None,
        *,
        num_targets: int = 1,
        lang: Language = NUMPYRO,
        around: dict | None = None,
        product: AbstractProduct = PLAIN,
    ) -> None:
        """The NumPyro (or Pyro) program.

        Args:
            X: rows, shape (n, p).
            y: targets, shape (n,) or (n, num_targets), or None to draw them.
            num_targets: target columns, or classes.
            lang: the modelling language.
            around: values of the sites around which the network is replaced by its linearisation.
            product: how the network multiplies by its weights.
        """
        likelihood, net = self.likelihood, self.net
        num_inputs = int(X.shape[-1])  # torch's tracer gives sizes as tensors
        arrays = net.weight_arrays(num_inputs, likelihood.num_outputs(num_targets))
        weights = self.prior.draws(arrays, lang)
        parameters = likelihood.parameters(num_targets, lang)
        with lang.plate("rows", X.shape[0]) as rows:
            if len(rows) < X.shape[0]:  # a minibatch; only NumPyro's engines ask for one
                X, y = jnp.asarray(X)[rows], None if y is None else jnp.asarray(y)[rows]
            f = (
                net.apply(weights, X, lang, product)
                if around is None
                else linearize(net, weights, around, X)
            )
            lang.sample("y", likelihood.distribution(f, parameters, lang), obs=y)

    def build_problem(self, schema: TableSchema, args: tuple, kwargs: dict) -> Problem:
        num_outputs = self.likelihood.num_outputs(schema.target.num_targets)
        arrays = self.net.weight_arrays(len(schema.columns.scale), num_outputs)
        self.prior.check(count_layers(arrays), self.net.activation)
        check_num_outputs(
            self.net, arrays, args[0], num_outputs, f"{self.likelihood} and this target"
        )
        return super().build_problem(schema, args, kwargs)

    def split_params(self) -> tuple[BNN, dict]:
        prior, of_prior = split_numbers(self.prior, self.prior.positives)
        likelihood, of_likelihood = split_numbers(self.likelihood, self.likelihood.positives)
        return replace_fields(self, {"prior": prior, "likelihood": likelihood}), {
            "prior": of_prior,
            "likelihood": of_likelihood,
        }

    def merge_params(self, numbers: dict) -> BNN:
        return replace_fields(
            self,
            {part: replace_fields(getattr(self, part), fields) for part, fields in numbers.items()},
        )

    def structure(self, schema: TableSchema) -> LayeredNetwork:
        program = self.program_for(schema)
        arrays = self.net.weight_arrays(
            len(schema.columns.scale), self.likelihood.num_outputs(schema.target.num_targets)
        )

        def linear(around: dict) -> Any:
            return functools.partial(program, around=around)

        def multiplied(product: AbstractProduct) -> Any:
            return functools.partial(program, product=product)

        def pyro_program() -> Any:
            from bayesdl.interop.pyro import PYRO

            return functools.partial(program, lang=PYRO)

        return LayeredNetwork(
            weights={self.prior.weight_site(array): array.name for array in arrays},
            scale_per_site=self.prior.scale_per_array,
            linearize=linear,
            pyro_program=pyro_program if self.network is None and self.prior.in_pyro else None,
            lookups=self.net.lookups,
            matrices={array.name: array.shape for array in arrays if not array.is_bias},
            with_product=multiplied if self.net.multiplies else None,
        )

    def identified(self, site: str) -> bool:
        """Weights beside hidden units are not identified: units can be permuted and mirrored. All other sites are."""
        linear = not self.hidden and self.network is None
        hierarchical = isinstance(
            self.prior, priors.Hierarchical | priors.LayerHierarchical | priors.Horseshoe
        )
        scale_of_a_layer = hierarchical and site.endswith((".scale", ".variance", ".global"))
        scale_of_a_layer |= site == LOG_SCALES or site.startswith("kernel.")
        return linear or scale_of_a_layer or site in ("sigma", "df", "concentration")


def linearize(net: AbstractNetwork, weights: dict, around: dict, X: Any) -> Any:
    """f(x; w0) + J(x; w0) (w - w0), w0 taken from `around`."""
    start = {name: jnp.asarray(around[name], dtype=weights[name].dtype) for name in weights}
    step = {name: weights[name] - start[name] for name in weights}
    outputs, change = jax.jvp(lambda w: net.apply(w, X, NUMPYRO), (start,), (step,))
    return outputs + change
