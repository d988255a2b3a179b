"""Variational autoencoders for collaborative filtering: Mult-VAE and Mult-DAE (Liang et al. 2018, arXiv:1802.05814).

    z_u ~ p(z),   x_u ~ Multinomial(N_u, softmax f(z_u)),   q(z_u | x_u) = N(mu(x_u), diag sigma(x_u)^2)

The model is a NumPyro program with a plate over users, the encoder its guide (`program.py`); training is that of `training.py`.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from bayesdl.data.validation import DataError
from bayesdl.recommend.autoencoder.codes import (
    Refinement,
    UserPosterior,
    decoded,
    drawer,
    encoded,
    refined,
    scored,
)
from bayesdl.recommend.autoencoder.likelihoods import LIKELIHOODS
from bayesdl.recommend.autoencoder.network import Network
from bayesdl.recommend.autoencoder.objective import PRIORS, Objective, totals
from bayesdl.recommend.autoencoder.training import PerUser, Trained, train
from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.rows import CSR, Entries, as_features, blocks, entries, in_order
from inference.core.keys import named_key
from inference.core.progress import Bar, Silent

PARAMS = "params/"  # before the names of weights in a file


class AbstractAutoencoder(AbstractRecommender):
    """What Mult-VAE and Mult-DAE share; see these.

    Attributes:
        stochastic: whether the code has a posterior.
        params_: weights of the best epoch.
        beta_: of the best epoch.
        history_: for each epoch its beta, loss and validation's score.
        best_epoch_: from 1.
        feature_names_: columns of the items' features, where they came in a DataFrame.
    """

    facts: ClassVar[tuple[str, ...]] = ("beta_", "history_", "best_epoch_", "feature_names_")
    stochastic: ClassVar[bool]
    params_: dict
    beta_: Any
    history_: list[dict[str, float]]
    best_epoch_: int
    feature_names_: list

    hidden: tuple[int, ...]
    latent: int
    likelihood: str
    prior: Any
    beta: Any
    dropout: float
    weight_decay: float
    learning_rate: float
    epochs: int
    batch_size: int
    item_block: int | None
    seed: int
    progress: bool

    def objective(self) -> Objective:
        """What is minimised, for the items of the fit."""
        network = Network(
            self.num_items_, tuple(self.hidden), self.latent, self.dropout, self.stochastic
        )
        return Objective(network, self.likelihood, self.prior, self.weight_decay, self.item_block)

    def check(self) -> None:
        """Refuses settings that have no meaning.

        Raises:
            ValueError: naming the setting.
        """
        name = type(self).__name__
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(
                f"{name}(likelihood={self.likelihood!r}): expected one of {', '.join(LIKELIHOODS)}."
            )
        if self.item_block is not None and self.likelihood != "multinomial":
            raise ValueError(
                f"{name}(item_block={self.item_block}): only the multinomial likelihood is taken in blocks."
            )
        for setting in (
            "latent",
            "epochs",
            "batch_size",
            *(["item_block"] if self.item_block is not None else []),
        ):
            value = getattr(self, setting)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"{name}({setting}={value!r}): expected a whole number of at least 1."
                )
        if not isinstance(self.hidden, tuple | list) or not all(
            type(width) is int and width > 0 for width in self.hidden
        ):
            raise ValueError(
                f"{name}(hidden={self.hidden!r}): expected a tuple of whole numbers of at least 1."
            )
        if not self.weight_decay >= 0:
            raise ValueError(
                f"{name}(weight_decay={self.weight_decay!r}): expected a number of at least 0."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"{name}(dropout={self.dropout!r}): expected a number with 0 <= dropout < 1."
            )
        if not self.learning_rate > 0:
            raise ValueError(
                f"{name}(learning_rate={self.learning_rate!r}): expected a number above zero."
            )

    def fit(
        self,
        train: Any,
        validation: HeldOut | None = None,
        *,
        items: Any = None,
        item_features: Any = None,
    ) -> Any:
        """Learns from users x items.

        Args:
            train: users x items, a scipy.sparse matrix of counts or ones.
            validation: users whose held-out items choose the epoch and the temperature, from `strong_split`.
            items: labels of the columns.
            item_features: items x features, in the order of the columns (`features[split.items]` after `strong_split`), or a
                DataFrame whose index has the items' labels; the decoder's rows are then around a linear function of them, so
                that items without any entry can be scored (`with_items`).

        Raises:
            DataError: for bad values, or a matrix without entries.
        """
        rows = self.begin(train, validation, items)
        if self.likelihood in ("bernoulli", "gaussian") and (rows.data != 1).any():
            raise DataError(
                f"likelihood={self.likelihood!r} takes ones for items chosen; got counts: use 'poisson', or X > 0."
            )
        key = jax.random.key(self.seed)
        params = (
            self.objective().init(named_key(key, "start"))
            | self.base_rates(rows)
            | self.of_features(item_features, named_key(key, "features"))
        )
        found = self.trained(rows, params, validation, named_key(key, "training"))
        self.params_, self.beta_ = jax.tree.map(np.asarray, found.params), found.beta
        self.history_, self.best_epoch_ = found.history, found.epoch
        return self.finish(validation)

    def base_rates(self, rows: CSR) -> dict[str, Any]:
        """Biases of the last layer at the start: the items' own rates, of likelihoods that have a level to find."""
        name = f"decoder{len(self.objective().network.decoder) - 1}.bias"
        rate = (np.asarray(rows.sum(0)).ravel() + 0.5) / (rows.shape[0] + 1)
        if self.likelihood == "bernoulli":
            return {name: jnp.asarray(np.log(rate / (1 - rate)), jnp.float32)}
        return (
            {name: jnp.asarray(np.log(rate), jnp.float32)} if self.likelihood == "poisson" else {}
        )

    def of_features(self, features: Any, key: jax.Array) -> dict[str, Any]:
        """Parameters for features of the items."""
        self.feature_names_ = []
        if features is None:
            return {}
        self.feature_names_ = getattr(features, "columns", np.zeros(0)).tolist()
        F = as_features(
            in_order(features, self.items_, 0, "Expected a row for each item."), "item_features"
        )
        if F.ndim != 2 or len(F) != self.num_items_ or not np.isfinite(F).all():
            raise DataError(
                f"item_features has shape {F.shape}, expected finite numbers with a row for each of {self.num_items_} items."
            )
        width = self.objective().network.decoder[-1][0]
        weight = 0.01 * jax.random.normal(key, (F.shape[1], width))
        return {
            "features": jnp.asarray(F),
            "features.weight": weight,
            "features.bias": jnp.zeros(F.shape[1]),
        }

    def trained(
        self, rows: CSR, params: dict, validation: HeldOut | None, key: jax.Array
    ) -> Trained:
        """The parameters that training finds."""

        trial = copy.copy(self)  # nothing of a fit that is interrupted stays
        trial.temperature_ = 1.0
        shown, hidden = (None, None) if validation is None else trial.held(validation)

        def score(params: dict) -> float:
            trial.params_ = params
            return trial.score_rows(shown, hidden)

        return train(
            self.objective(),
            rows,
            params,
            beta=self.beta,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            score=None if validation is None else score,
            key=key,
            progress=Bar() if self.progress else Silent(),
        )

    def code(self, x: Entries, how: Refinement) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance of users; of one without items the prior's, where that is normal."""
        objective = self.objective()
        code = encoded(objective, self.params_, x)
        if how.steps and objective.network.stochastic:
            beta = self.betas(x, how.likelihood_power)
            code = refined(
                objective, self.params_, code, x, beta, how.steps, jax.random.key(self.seed)
            )
        return code

    def betas(self, x: Entries, power: Any) -> Any:
        """Beta of each user of a batch, shape (b,)."""
        if power is not None:
            return jnp.full(len(x.present), 1 / power)
        return (
            self.beta_.share * totals(x)
            if isinstance(self.beta_, PerUser)
            else jnp.full(len(x.present), self.beta_)
        )

    def block_scores(self, rows: CSR, how: Refinement) -> Any:
        if not how.steps:
            return scored(self.objective(), self.params_, entries(rows))
        return decoded(self.objective(), self.params_, self.code(entries(rows), how)[0])

    def block_law(self, rows: CSR, how: Refinement) -> tuple[Any, Partial]:
        objective, code = self.objective(), self.code(entries(rows), how)
        return decoded(objective, self.params_, code[0]), Partial(
            drawer(objective.network), self.params_, *code
        )

    def arrays(self) -> dict[str, np.ndarray]:
        return {f"{PARAMS}{name}": np.asarray(value) for name, value in self.params_.items()}

    def shapes(self, arrays: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
        objective = self.objective()
        found = {
            name: leaf.shape
            for name, leaf in jax.eval_shape(objective.init, jax.random.key(0)).items()
        }
        if f"{PARAMS}features" in arrays:  # only where the items had any
            given, width = arrays[f"{PARAMS}features"].shape[-1], objective.network.decoder[-1][0]
            found |= {
                "features": (self.num_items_, given),
                "features.weight": (given, width),
                "features.bias": (given,),
            }
        return {f"{PARAMS}{name}": shape for name, shape in found.items()}

    def take(self, arrays: dict[str, np.ndarray]) -> None:
        self.params_ = {
            name.removeprefix(PARAMS): value
            for name, value in arrays.items()
            if name.startswith(PARAMS)
        }

    def item_vectors(self) -> np.ndarray:
        return np.asarray(self.objective().network.item_layer(self.params_)[0]).T

    def with_items(self, item_features: Any, items: Any) -> Any:
        """The same recommender with more items, whose scores come from their features alone.

        Raises:
            DataError: where the fit had no features of items, or the shapes do not match.
        """
        if "features" not in getattr(self, "params_", {}):
            raise DataError("with_items needs a recommender that was fitted with item_features.")
        labels = np.atleast_1d(np.asarray(items))
        table = in_order(item_features, labels, 0, "Expected a row for each of the new items.")
        if self.feature_names_:
            table = in_order(table, self.feature_names_, 1, "Expected the features of the fit.")
        F = as_features(table, "with_items")
        if (
            F.ndim != 2
            or F.shape[1] != self.params_["features"].shape[1]
            or len(labels) != len(F)
            or not np.isfinite(F).all()
        ):
            raise DataError(
                f"with_items: features of shape {F.shape} and {len(labels)} labels; expected finite "
                f"numbers (items, {self.params_['features'].shape[1]}) and a label of each."
            )
        both = np.concatenate([self.items_, labels])
        if {type(label) for label in labels.tolist()} - {
            type(label) for label in self.items_.tolist()
        }:
            raise DataError(
                f"with_items: the labels {labels[:3]}, ... are of another kind than {self.items_[:3]}, ... of the fit."
            )
        if len(np.unique(both)) < len(both):
            raise DataError(
                f"with_items: the labels {labels[:3]}, ... must be new, each of them once."
            )
        other = dataclasses.replace(self)  # type: ignore[type-var]
        for name in ("temperature_", *self.facts):
            setattr(other, name, getattr(self, name))
        last = f"decoder{len(self.objective().network.decoder) - 1}"
        grown = {
            "features": (0, F),
            "encoder0.weight": (0, None),
            f"{last}.weight": (1, None),
            f"{last}.bias": (0, None),
        }
        grown |= {"pseudo": (1, None)} if "pseudo" in self.params_ else {}
        params = dict(self.params_)
        for name, (axis, more) in grown.items():
            shape = list(params[name].shape)
            shape[axis] = len(F)
            fill = -1e9 if name == "pseudo" else 0.0
            params[name] = np.concatenate(
                [params[name], np.full(shape, fill, np.float32) if more is None else more], axis
            )
        other.params_, other.num_items_ = params, self.num_items_ + len(F)
        other.items_ = both
        return other


@dataclasses.dataclass
class MultVAE(AbstractAutoencoder):
    """A variational autoencoder with a multinomial likelihood (Liang et al. 2018, arXiv:1802.05814).

    Args:
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
        latent: dimension of z.
        likelihood: "multinomial", "bernoulli", "gaussian" or "poisson".
        prior: of z: "normal"; "vamp", a mixture of what the encoder says of learned users; or "composite" (RecVAE).
        beta: weight of KL(q || p): "auto" anneals and tracks the validation users, a number, `Anneal`, `PerUser`, or a function
            of the share of the planned updates that is done. Below 1, a user's posterior is that under the likelihood to the
            power 1 / beta.
        dropout: share of a user's entries that is dropped in training.
        weight_decay: times the sum of squared weights.
        learning_rate: Adam's.
        epochs: passes over the users; the best on the validation users is kept.
        batch_size: users of an update, at most: batches are of equal size.
        item_block: items whose scores are in memory at a time in training, for large catalogues; None for all.
        seed: of weights, order, dropout and noise.
        progress: whether a bar is shown.

    "auto" rises to 0.3 at the end; where the validation users have had no new best for an eighth of the epochs, training goes
    back to the best and holds its beta. Without validation users it is `Anneal()`.

    Example:
        >>> import numpy as np, scipy.sparse
        >>> X = scipy.sparse.random_array((200, 30), density=0.2, rng=0, data_sampler=lambda size: np.ones(size))
        >>> model = MultVAE(hidden=(16,), latent=4, epochs=3, progress=False).fit(X)
        >>> model.recommend(X[:2].tocsr(), k=3).items.shape
        (2, 3)
    """

    stochastic: ClassVar[bool] = True
    hidden: tuple[int, ...] = (600,)
    latent: int = 200
    likelihood: str = "multinomial"
    prior: str = "normal"
    beta: Any = "auto"
    dropout: float = 0.5
    weight_decay: float = 0.0
    learning_rate: float = 1e-3
    epochs: int = 200
    batch_size: int = 500
    item_block: int | None = None
    seed: int = 0
    progress: bool = True

    @property
    def refines(self) -> bool:
        return True

    def check(self) -> None:
        super().check()
        if self.prior not in PRIORS:
            raise ValueError(f"MultVAE(prior={self.prior!r}): expected one of {', '.join(PRIORS)}.")
        known = self.beta == "auto" or isinstance(self.beta, PerUser) or callable(self.beta)
        if not known and not (isinstance(self.beta, int | float) and self.beta >= 0):
            raise ValueError(
                f"MultVAE(beta={self.beta!r}): expected 'auto', a number of at least 0, Anneal, PerUser or a function."
            )

    def posterior(
        self, X: Any, *, refine_steps: int = 0, likelihood_power: float | int | None = None
    ) -> UserPosterior:
        """q(z | x) of users.

        With the prior "composite", which holds what the encoder said of the same rows, it is the optimum of a bound alone.

        Args:
            X: users x items.
            refine_steps: steps of optimising each user's q from the encoder's answer.
            likelihood_power: of the posterior that q approximates; None for that of training, 1 / beta. Another needs steps.

        Raises:
            ValueError: for another power without steps.
        """
        how = self.how(refine_steps, likelihood_power)
        parts, powers = [], []
        for users, part in blocks(self.rows(X)):
            x, n = entries(part), users.stop - users.start
            parts.append([np.asarray(leaf)[:n] for leaf in self.code(x, how)])
            with np.errstate(divide="ignore"):
                powers.append(1 / np.asarray(self.betas(x, likelihood_power))[:n])
        mean, log_variance = (np.concatenate(leaves) for leaves in zip(*parts, strict=True))
        return UserPosterior(mean, np.exp(log_variance / 2), np.concatenate(powers))


@dataclasses.dataclass
class MultDAE(AbstractAutoencoder):
    """A denoising autoencoder with a multinomial likelihood (Liang et al. 2018): the code is tanh, with no posterior.

    Its intervals are of no width: what is not known of a user's taste is not in this model.

    Args:
        hidden: widths of the encoder's hidden layers before the code.
        latent: width of the code.
        likelihood: as of `MultVAE`.
        dropout: share of a user's entries that is dropped in training.
        weight_decay: times the sum of squared weights.
        learning_rate: Adam's.
        epochs: passes over the users; the best on the validation users is kept.
        batch_size: users of an update, at most: batches are of equal size.
        item_block: as of `MultVAE`.
        seed: of weights, order and dropout.
        progress: whether a bar is shown.

    Example:
        >>> MultDAE(latent=100).weight_decay
        2e-05
    """

    stochastic: ClassVar[bool] = False
    prior: ClassVar[str] = "normal"  # and beta times the divergence, which is zero: there is none
    beta: ClassVar[float] = 0.0
    hidden: tuple[int, ...] = ()
    latent: int = 200
    likelihood: str = "multinomial"
    dropout: float = 0.5
    weight_decay: float = 2e-5
    learning_rate: float = 1e-3
    epochs: int = 200
    batch_size: int = 500
    item_block: int | None = None
    seed: int = 0
    progress: bool = True
