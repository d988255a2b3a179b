"""The Bayesian neural network: a prior over weights, a network, a likelihood.

w ~ p(w),    f = f(x; w),    y ~ p(y | f)
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, cast

import jax
from jax.typing import ArrayLike

from bayesdl import priors
from bayesdl.bnn.equinox_network import EquinoxNetwork
from bayesdl.bnn.limit import wide_limit
from bayesdl.bnn.networks import MLP, PLAIN, AbstractNetwork, check_num_outputs
from bayesdl.bnn.program import layered_network, network_program
from bayesdl.data.table import TableSchema
from bayesdl.gp.spec import GP
from bayesdl.model import likelihoods
from bayesdl.model.examples import CommandLine, Example, rows
from bayesdl.model.language import NUMPYRO, Language, Tensor
from bayesdl.model.table import AbstractTableModel
from bayesdl.priors.base import AbstractPrior, count_layers, replace_fields, split_numbers
from bayesdl.typing import Activation, Scaling
from inference.core.problem import Problem
from inference.core.structure import AbstractProduct, LayeredNetwork


def default_prior(likelihood: likelihoods.AbstractLikelihood) -> priors.Gaussian:
    """Return the prior over weights that suits the outputs of a likelihood.

    Standardised real targets have the size of functions under N(0, 1) weights. Logits must reach
    further, or probabilities stay near the middle however clear the classes are.

    Args:
        likelihood: the likelihood of the targets.

    Example:
        >>> default_prior(likelihoods.Bernoulli()).scale
        3.0
    """
    return priors.Gaussian(3.0 if likelihood.kind == "class" else 1.0)


@dataclasses.dataclass(frozen=True)
class BNN(AbstractTableModel):
    """A Bayesian neural network (MacKay 1992; Neal 1996).

    Args:
        hidden: the widths of the hidden layers; () is a linear model.
        activation: the activation of all hidden layers: "tanh", "relu", "gelu", "silu", "sine" or
            "erf".
        prior: the prior over the weights, from `bayesdl.priors`. None (the default) takes
            `default_prior` of the likelihood, which then stands in this field: N(0, 1), which
            under NTK scaling gives functions of a size that does not depend on the widths, and
            N(0, 3^2) where targets are classes.
        likelihood: the likelihood of the targets; normal with a learned scale by default.
        scaling: "ntk" divides each layer's sum by sqrt(fan_in), "standard" does not.
        network: a `bayesdl.ConvNet(...)`, or an Equinox module mapping one row to the outputs; it
            takes the place of `hidden`, `activation` and `scaling`, which are refused beside it.
            Layers of a module are not scaled, so `priors.Gaussian(fan_in=True)` is their usual
            prior.
        standardize: whether inputs (and real targets) are standardised with the training data's
            mean and standard deviation. Predictions and log densities are given in the original
            units. Latent sites refer to standardised data.

    Example:
        >>> model = BNN(hidden=(20,), activation="relu", prior=priors.Laplace())
        >>> model.hidden
        (20,)
        >>> BNN(likelihood=likelihoods.Categorical()).prior
        Gaussian(scale=3.0, fan_in=False)
    """

    hidden: tuple[int, ...] = (50,)
    activation: Activation = "tanh"
    # never None once a model is made
    prior: AbstractPrior = cast(AbstractPrior, None)
    likelihood: likelihoods.AbstractLikelihood = likelihoods.Normal()
    scaling: Scaling = "ntk"
    # not hashed, as it holds arrays
    network: Any = dataclasses.field(default=None, hash=False)
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
        self._refuse_other_than("likelihood", likelihoods.AbstractLikelihood, likelihoods.Normal())
        if self.prior is None:
            object.__setattr__(self, "prior", default_prior(self.likelihood))
        self._refuse_other_than("prior", AbstractPrior, priors.Gaussian())
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.network is not None:
            self._refuse_settings_beside_network()
        # making the network validates the settings
        _ = self.net

    def _refuse_other_than(self, name: str, kind: type, example: object) -> None:
        value = getattr(self, name)
        if not isinstance(value, kind):
            raise ValueError(f"BNN({name}={value!r}): expected an object, e.g. {example!r}.")

    def _refuse_settings_beside_network(self) -> None:
        defaults = {
            f.name: f.default
            for f in dataclasses.fields(self)
            if f.name in ("hidden", "activation", "scaling")
        }
        for name, default in defaults.items():
            if getattr(self, name) != default:
                raise ValueError(
                    f"BNN({name}={getattr(self, name)!r}, network=...): expected no {name} beside "
                    f"a network, which has its own. Leave out {name}, or network."
                )

    @property
    def net(self) -> AbstractNetwork:
        """Return the network as a function of its weights."""
        if self.network is None:
            return MLP(self.hidden, self.activation, self.scaling)
        if isinstance(self.network, AbstractNetwork):
            return self.network
        return EquinoxNetwork(self.network)

    def with_prior(self, prior: AbstractPrior) -> BNN:
        """Return the same network and likelihood under another prior."""
        return dataclasses.replace(self, prior=prior)

    def limit(self) -> GP:
        """Return the Gaussian process that the network tends to as its layers get wider.

        Its kernel is `bayesdl.kernels.WideNetwork` with the scales of this network's prior. What
        it lacks is that a network learns features, which single units hold.

        Raises:
            ModelError: where there is no limit: for networks that are not made of layers, weights
                that are not normal with fixed scales, sums that grow with the width, and targets
                that are not normal.

        Example:
            >>> BNN(hidden=(50, 50), activation="relu").limit().kernel.weight
            (1.0, 1.0, 1.0)
        """
        return wide_limit(self.net, self.prior, self.likelihood, self.standardize)

    def program(
        self,
        X: Tensor,
        y: Tensor | None = None,
        *,
        num_targets: int = 1,
        lang: Language = NUMPYRO,
        around: dict[str, ArrayLike] | None = None,
        product: AbstractProduct = PLAIN,
        shift: ArrayLike | None = None,
    ) -> None:
        """Run the NumPyro (or Pyro) program.

        Args:
            X: the rows of inputs, shape (n, p).
            y: the targets, shape (n,) or (n, num_targets); None draws them.
            num_targets: the number of target columns, or of classes.
            lang: the modelling language.
            around: values of the weights around which the network is replaced by its
                linearisation; None for the network itself.
            product: how the network multiplies by its weights.
            shift: what is added to the network's outputs, shape (n, outputs); None for nothing.
        """
        parts = self.net, self.prior, self.likelihood
        network_program(*parts, X, y, num_targets, lang, around, product, shift)

    def build_problem(self, schema: TableSchema, args: tuple, kwargs: dict) -> Problem:
        num_outputs = self.likelihood.num_outputs(schema.target.num_targets)
        arrays = self.net.weight_arrays(len(schema.columns.scale), num_outputs)
        self.prior.check(count_layers(arrays), self.net.activation)
        check_num_outputs(
            self.net, arrays, args[0], num_outputs, f"{self.likelihood} and this target"
        )
        return super().build_problem(schema, args, kwargs)

    def split_params(self) -> tuple[BNN, dict]:
        parts = {
            name: split_numbers(part, part.positives)
            for name, part in (("prior", self.prior), ("likelihood", self.likelihood))
        }
        specs = {name: spec for name, (spec, _) in parts.items()}
        return replace_fields(self, specs), {name: numbers for name, (_, numbers) in parts.items()}

    def merge_params(self, numbers: dict) -> BNN:
        return replace_fields(
            self,
            {part: replace_fields(getattr(self, part), fields) for part, fields in numbers.items()},
        )

    def structure(self, schema: TableSchema) -> LayeredNetwork:
        arrays = self.net.weight_arrays(
            len(schema.columns.scale), self.likelihood.num_outputs(schema.target.num_targets)
        )
        in_pyro = self.network is None and self.prior.in_pyro
        return layered_network(self.net, self.prior, arrays, in_pyro)

    def identified(self, site: str) -> bool:
        """Whether data can identify a site.

        Weights beside hidden units are not identified, as units can be permuted and mirrored.
        Scales of whole layers and the likelihood's parameters are, and so are all sites of a
        linear model.
        """
        linear = not self.hidden and self.network is None
        return linear or self.prior.is_scale(site) or site in ("sigma", "df", "concentration")
