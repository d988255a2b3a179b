"""Mult-VAE and Mult-DAE (Liang et al. 2018, arXiv:1802.05814).

    z_u ~ p(z),   x_u ~ Multinomial(N_u, softmax f(z_u)),   q(z_u | x_u) = N(mu(x_u), diag s(x_u)^2)

The model is a NumPyro program with a plate over users, and the encoder is its guide (`program.py`);
its training is that of `training.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from bayesdl.recommend.autoencoder.base import AbstractAutoencoder
from bayesdl.recommend.autoencoder.codes import UserPosterior
from bayesdl.recommend.autoencoder.objective import PRIORS
from bayesdl.recommend.autoencoder.training import PerUser
from bayesdl.recommend.estimator import register
from bayesdl.recommend.rows import as_entries, user_blocks
from bayesdl.typing import ItemLikelihood, TableLike, TastePrior


@register
@dataclasses.dataclass
class MultVAE(AbstractAutoencoder):
    """A variational autoencoder with a multinomial likelihood (Liang et al. 2018).

    Sizes, dropout, learning rate and batch size are those of the paper, arXiv:1802.05814.

    Args:
        hidden: the widths of the encoder's hidden layers; the decoder has them in reverse.
        latent: the dimension of z.
        likelihood: "multinomial", "bernoulli", "gaussian" or "poisson".
        prior: the prior of z: "normal"; "vamp", a mixture of the encoder's answers for learned
            users; or "composite" (RecVAE).
        beta: the weight of KL(q || p): "auto" anneals and tracks the validation users, a number,
            `Anneal`, `PerUser`, or a function of the share of the planned updates that is done.
            Below 1, a user's posterior is that under the likelihood to the power 1 / beta.
        dropout: the share of a user's entries that is dropped in training.
        weight_decay: the factor of the sum of squared weights.
        learning_rate: Adam's learning rate.
        epochs: the number of passes over the users; the best on the validation users is kept.
        batch_size: the number of users of an update, at most: batches are of equal size.
        item_block: the number of items whose scores are in memory at a time in training, for large
            catalogues; None for all.
        seed: the seed of weights, order, dropout and noise.
        progress: whether a bar is shown.

    Attributes:
        params_: the weights of the best epoch.
        beta_: the beta of the best epoch.
        history_: a dictionary for each epoch: beta, loss, and the validation users' NDCG@100.
        best_epoch_: the number of the best epoch, from 1.
        feature_names_: the names of the items' features, where they came in a DataFrame.
        num_items_: the number of columns of the data that it was fitted to.
        items_: the labels of the items, shape (items,); 0, 1, ... where none were given.
        temperature_: T of the probabilities, fitted on validation users, or 1 without them.

    "auto" would rise to 0.3 at the end. Where the validation users have had no new best for an
    eighth of the epochs, training goes back to the best and holds its beta. Without validation
    users it is `Anneal()`.

    Example:
        >>> import numpy as np, scipy.sparse
        >>> shape, ones = (200, 30), lambda size: np.ones(size)
        >>> X = scipy.sparse.random_array(shape, density=0.2, rng=0, data_sampler=ones)
        >>> model = MultVAE(hidden=(16,), latent=4, epochs=3, progress=False).fit(X)
        >>> model.recommend(X[:2].tocsr(), k=3).items.shape
        (2, 3)
    """

    stochastic: ClassVar[bool] = True
    hidden: tuple[int, ...] = (600,)
    latent: int = 200
    likelihood: ItemLikelihood = "multinomial"
    prior: TastePrior = "normal"
    beta: Any = "auto"
    dropout: float = 0.5
    weight_decay: float = 0.0
    learning_rate: float = 1e-3
    epochs: int = 200
    batch_size: int = 500
    item_block: int | None = None
    seed: int = 0
    progress: bool = True

    def describe_fit(self) -> list[str]:
        beta = self.beta_
        shown = repr(beta) if isinstance(beta, PerUser) else f"{beta:.3g}"
        return [f"best epoch {self.best_epoch_} of {self.epochs}, beta {shown}"]

    @property
    def refines(self) -> bool:
        """Whether each user has a posterior that optimisation steps improve: True."""
        return True

    def check(self) -> None:
        super().check()
        if self.prior not in PRIORS:
            raise ValueError(f"MultVAE(prior={self.prior!r}): expected one of {', '.join(PRIORS)}.")
        known = self.beta == "auto" or isinstance(self.beta, PerUser) or callable(self.beta)
        if not known and not (isinstance(self.beta, int | float) and self.beta >= 0):
            raise ValueError(
                f"MultVAE(beta={self.beta!r}): expected 'auto', a number of at least 0, Anneal, "
                "PerUser or a function."
            )

    def posterior(
        self,
        X: TableLike,
        *,
        refine_steps: int = 0,
        likelihood_power: float | int | None = None,
    ) -> UserPosterior:
        """Return the posteriors q(z | x) of users.

        With the prior "composite", which holds the encoder's answer for the same rows, q is the
        optimum of a bound alone.

        Args:
            X: users x items.
            refine_steps: the number of optimisation steps of each user's q from the encoder's
                answer.
            likelihood_power: the power of the likelihood in the posterior that q approximates; None
                for that of training, 1 / beta. Another power needs steps.

        Raises:
            ValueError: for another power without steps.
        """
        refinement = self.refinement(refine_steps, likelihood_power)
        parts, powers = [], []
        for users, part in user_blocks(self.rows(X)):
            x, n = as_entries(part), users.stop - users.start
            parts.append([np.asarray(leaf)[:n] for leaf in self.user_codes(x, refinement)])
            with np.errstate(divide="ignore"):
                powers.append(1 / np.asarray(self.user_betas(x, likelihood_power))[:n])
        mean, log_variance = (np.concatenate(leaves) for leaves in zip(*parts, strict=True))
        return UserPosterior(mean, np.exp(log_variance / 2), np.concatenate(powers))


@register
@dataclasses.dataclass
class MultDAE(AbstractAutoencoder):
    """A denoising autoencoder with a multinomial likelihood (Liang et al. 2018).

    The code is tanh, with no posterior. Its intervals are of no width: uncertainty of a user's
    taste is not in this model.

    Args:
        hidden: the widths of the encoder's hidden layers before the code.
        latent: the width of the code.
        likelihood: "multinomial", "bernoulli", "gaussian" or "poisson".
        dropout: the share of a user's entries that is dropped in training.
        weight_decay: the factor of the sum of squared weights.
        learning_rate: Adam's learning rate.
        epochs: the number of passes over the users; the best on the validation users is kept.
        batch_size: the number of users of an update, at most: batches are of equal size.
        item_block: the number of items whose scores are in memory at a time in training, for large
            catalogues; None for all.
        seed: the seed of weights, order and dropout.
        progress: whether a bar is shown.

    Attributes:
        params_: the weights of the best epoch.
        beta_: zero, as there is no divergence.
        history_: a dictionary for each epoch: beta, loss, and the validation users' NDCG@100.
        best_epoch_: the number of the best epoch, from 1.
        feature_names_: the names of the items' features, where they came in a DataFrame.
        num_items_: the number of columns of the data that it was fitted to.
        items_: the labels of the items, shape (items,); 0, 1, ... where none were given.
        temperature_: T of the probabilities, fitted on validation users, or 1 without them.

    Example:
        >>> MultDAE(latent=100).weight_decay
        2e-05
    """

    stochastic: ClassVar[bool] = False
    # The code has no divergence from a prior, so the prior is a name only and beta is zero.
    prior: ClassVar[str] = "normal"
    beta: ClassVar[float] = 0.0
    hidden: tuple[int, ...] = ()
    latent: int = 200
    likelihood: ItemLikelihood = "multinomial"
    dropout: float = 0.5
    weight_decay: float = 2e-5
    learning_rate: float = 1e-3
    epochs: int = 200
    batch_size: int = 500
    item_block: int | None = None
    seed: int = 0
    progress: bool = True
