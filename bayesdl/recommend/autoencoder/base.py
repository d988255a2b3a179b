"""The estimator that Mult-VAE and Mult-DAE share: fit, codes, scores, and items that came later."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike

from bayesdl.data.validation import DataError
from bayesdl.recommend.autoencoder.codes import (
    decode_codes,
    encode_users,
    refine_codes,
    score_draw,
    score_items,
)
from bayesdl.recommend.autoencoder.features import (
    append_items,
    append_labels,
    feature_shapes,
    init_features,
    read_features,
    read_new_features,
)
from bayesdl.recommend.autoencoder.likelihoods import LIKELIHOODS
from bayesdl.recommend.autoencoder.network import Network, Weights
from bayesdl.recommend.autoencoder.objective import Objective, entry_totals
from bayesdl.recommend.autoencoder.training import PerUser, TrainingResult, train
from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.refinement import Refinement
from bayesdl.recommend.rows import CSR, Entries, as_entries
from bayesdl.typing import ColumnLike, ItemLikelihood, StoredArrays, TableLike
from inference.core.keys import named_key
from inference.core.progress import Bar, Silent
from inference.settings import is_whole

AutoencoderT = TypeVar("AutoencoderT", bound="AbstractAutoencoder")

# The beginning of the names of weights in a file.
PARAMS = "params/"


class AbstractAutoencoder(AbstractRecommender):
    """The fit, the codes and the scores that Mult-VAE and Mult-DAE share; see these.

    Attributes:
        stochastic: whether the code has a posterior.
        params_: the weights of the best epoch.
        beta_: the beta of the best epoch.
        history_: a dictionary for each epoch: beta, loss, and the validation users' NDCG@100.
        best_epoch_: the number of the best epoch, from 1.
        feature_names_: the names of the items' features, where they came in a DataFrame.
    """

    in_batches: ClassVar[bool] = True
    facts: ClassVar[tuple[str, ...]] = ("beta_", "history_", "best_epoch_", "feature_names_")
    stochastic: ClassVar[bool]
    params_: dict
    beta_: Any
    history_: list[dict[str, float]]
    best_epoch_: int
    feature_names_: list

    hidden: tuple[int, ...]
    latent: int
    likelihood: ItemLikelihood
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
        """Return the objective for the items of the fit."""
        network = Network(
            self.num_items_, tuple(self.hidden), self.latent, self.dropout, self.stochastic
        )
        return Objective(network, self.likelihood, self.prior, self.weight_decay, self.item_block)

    def check(self) -> None:
        name = type(self).__name__
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(
                f"{name}(likelihood={self.likelihood!r}): expected one of {', '.join(LIKELIHOODS)}."
            )
        if self.item_block is not None and self.likelihood != "multinomial":
            raise ValueError(
                f"{name}(item_block={self.item_block}): only the multinomial likelihood is taken "
                "in blocks."
            )
        self.check_whole_numbers()
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

    def check_whole_numbers(self) -> None:
        """Refuse sizes and numbers of epochs and users that are not whole numbers of at least 1.

        Raises:
            ValueError: with the name of the setting.
        """
        name = type(self).__name__
        settings = ["latent", "epochs", "batch_size"]
        if self.item_block is not None:
            settings.append("item_block")
        for setting in settings:
            value = getattr(self, setting)
            if not is_whole(value):
                raise ValueError(
                    f"{name}({setting}={value!r}): expected a whole number of at least 1."
                )
        if not isinstance(self.hidden, tuple | list) or not all(
            type(width) is int and width > 0 for width in self.hidden
        ):
            raise ValueError(
                f"{name}(hidden={self.hidden!r}): expected a tuple of whole numbers of at least 1."
            )

    def fit(
        self: AutoencoderT,
        train: TableLike,
        validation: HeldOut | None = None,
        *,
        items: ColumnLike | None = None,
        item_features: TableLike | None = None,
    ) -> AutoencoderT:
        """Learn from users x items.

        Args:
            train: users x items, a scipy.sparse matrix of counts or ones.
            validation: users whose held-out items choose the epoch and the temperature, from
                `strong_split`.
            items: the labels of the columns.
            item_features: items x features, in the order of the columns (`features[split.items]`
                after `strong_split`), or a DataFrame with the items' labels as index. The rows of
                the decoder are then deviations from a linear function of them, so that items
                without any entry can be scored (`with_items`).

        Raises:
            DataError: for bad values, or a matrix without entries.
        """
        rows = self.start_fit(train, validation, items)
        if self.likelihood in ("bernoulli", "gaussian") and (rows.data != 1).any():
            raise DataError(
                f"likelihood={self.likelihood!r} takes ones for items chosen; got counts: use "
                "'poisson', or X > 0."
            )
        key = jax.random.key(self.seed)
        params = (
            self.objective().init(named_key(key, "start"))
            | self.base_rate_biases(rows)
            | self.init_item_features(item_features, named_key(key, "features"))
        )
        found = self.run_training(rows, params, validation, named_key(key, "training"))
        self.params_, self.beta_ = jax.tree.map(np.asarray, found.params), found.beta
        self.history_, self.best_epoch_ = found.history, found.epoch
        return self.finish_fit(validation)

    def base_rate_biases(self, rows: CSR) -> dict[str, jax.Array]:
        """Return biases of the last layer for the start: the items' own rates.

        They are for likelihoods that have a level to find; for others the result is empty.
        """
        name = f"{self.objective().network.item_layer_name}.bias"
        rate = (np.asarray(rows.sum(0)).ravel() + 0.5) / (rows.shape[0] + 1)
        if self.likelihood == "bernoulli":
            return {name: jnp.asarray(np.log(rate / (1 - rate)), jnp.float32)}
        if self.likelihood == "poisson":
            return {name: jnp.asarray(np.log(rate), jnp.float32)}
        return {}

    def init_item_features(
        self, features: TableLike | None, key: jax.Array
    ) -> dict[str, jax.Array]:
        """Return parameters for features of the items, and remember the features' names."""
        self.feature_names_ = []
        if features is None:
            return {}
        self.feature_names_ = getattr(features, "columns", np.zeros(0)).tolist()
        F = read_features(features, self.items_)
        return init_features(F, self.objective().network.decoder[-1][0], key)

    def run_training(
        self, rows: CSR, params: Weights, validation: HeldOut | None, key: jax.Array
    ) -> TrainingResult:
        """Train from these parameters; the validation users choose the epoch.

        Args:
            rows: the training users' rows.
            params: the parameters at the start.
            validation: the validation users, or None.
            key: the key of order, dropout and noise.
        """
        # A copy scores the epochs, so that nothing of a fit that is interrupted stays here.
        trial = copy.copy(self)
        trial.temperature_ = 1.0
        judged = None if validation is None else trial.check_held_out(validation)

        def score(params: Weights) -> float:
            trial.params_ = dict(params)
            assert judged is not None
            return trial.score_rows(*judged)

        return train(
            self.objective(),
            rows,
            params,
            beta=self.beta,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            score=None if judged is None else score,
            key=key,
            progress=Bar() if self.progress else Silent(),
        )

    def user_codes(self, x: Entries, refinement: Refinement) -> tuple[jax.Array, jax.Array]:
        """Return mean and log variance of users' codes, shape (b, latent).

        For a user without items they are those of the prior, where that is normal.
        """
        objective = self.objective()
        code = encode_users(objective, self.params_, x)
        if refinement.steps and objective.network.stochastic:
            beta = self.user_betas(x, refinement.likelihood_power)
            code = refine_codes(
                objective, self.params_, code, x, beta, refinement.steps, jax.random.key(self.seed)
            )
        return code

    def user_betas(self, x: Entries, power: ArrayLike | None) -> jax.Array:
        """Return beta of each user of a batch, shape (b,).

        Args:
            x: the batch of users.
            power: the power of the likelihood, 1 / beta; None for that of training.
        """
        if power is not None:
            return jnp.full(len(x.present), 1 / power)
        if isinstance(self.beta_, PerUser):
            return self.beta_.share * entry_totals(x)
        return jnp.full(len(x.present), self.beta_)

    def block_scores(self, rows: CSR, refinement: Refinement) -> jax.Array:
        if not refinement.steps:
            return score_items(self.objective(), self.params_, as_entries(rows))
        mean = self.user_codes(as_entries(rows), refinement)[0]
        return decode_codes(self.objective(), self.params_, mean)

    def block_posterior(self, rows: CSR, refinement: Refinement) -> tuple[jax.Array, Partial]:
        objective, code = self.objective(), self.user_codes(as_entries(rows), refinement)
        draw = Partial(score_draw(objective.network), self.params_, *code)
        return decode_codes(objective, self.params_, code[0]), draw

    def arrays(self) -> StoredArrays:
        return {f"{PARAMS}{name}": np.asarray(value) for name, value in self.params_.items()}

    def array_shapes(self, arrays: StoredArrays) -> dict[str, tuple[int, ...]]:
        objective = self.objective()
        start = jax.eval_shape(objective.init, jax.random.key(0))
        found = {name: leaf.shape for name, leaf in start.items()}
        # Only fits with features of the items have these arrays.
        if f"{PARAMS}features" in arrays:
            num_features = arrays[f"{PARAMS}features"].shape[-1]
            width = objective.network.decoder[-1][0]
            found |= feature_shapes(self.num_items_, num_features, width)
        return {f"{PARAMS}{name}": shape for name, shape in found.items()}

    def set_arrays(self, arrays: StoredArrays) -> None:
        self.params_ = {
            name.removeprefix(PARAMS): value
            for name, value in arrays.items()
            if name.startswith(PARAMS)
        }

    def item_vectors(self) -> np.ndarray:
        return np.asarray(self.objective().network.item_layer(self.params_)[0]).T

    def with_items(self: AutoencoderT, item_features: TableLike, items: ColumnLike) -> AutoencoderT:
        """Return the same recommender with more items, whose scores come from their features.

        Args:
            item_features: the features of the new items, items x features, or a DataFrame with
                the new labels as index.
            items: the labels of the new items.

        Raises:
            DataError: where the fit had no features of items, or the shapes do not match.
        """
        if "features" not in getattr(self, "params_", {}):
            raise DataError("with_items needs a recommender that was fitted with item_features.")
        labels = np.atleast_1d(np.asarray(items))
        num_features = self.params_["features"].shape[1]
        F = read_new_features(item_features, labels, self.feature_names_, num_features)
        both = append_labels(self.items_, labels)
        other = dataclasses.replace(self)  # pyright: ignore[reportArgumentType]
        for name in ("temperature_", *self.facts):
            setattr(other, name, getattr(self, name))
        other.params_ = append_items(self.params_, self.objective().network, F)
        other.items_, other.num_items_ = both, len(both)
        return other
