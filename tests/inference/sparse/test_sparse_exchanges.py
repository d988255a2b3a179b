"""Sparse subspace VI: what is removed and what is added, against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special, stats
from sparse_toys import make_training, mean_gradient, moments_of, regression

import bayesdl as bdl
from inference.core.keys import named_key
from inference.core.problem import ProblemError
from inference.sparse.engine import SSVI
from inference.sparse.patterns.budget import GLOBAL
from inference.sparse.products.sparse_product import SparseProduct
from inference.sparse.training.exchange import max_exchanged
from inference.sparse.training.scores import evidence_gain, score_weights
from inference.sparse.variational.sites import scale_of

STRUCTURES = ("unstructured", "fan_in", "block:4", "neurons")


def test_snr_orders_weights_as_the_papers_criterion():
    rng = np.random.default_rng(0)
    r = np.exp(rng.uniform(np.log(0.1), np.log(1000), 1_000_000))
    sd = np.exp(rng.normal(size=r.size))
    mean = r * sd * rng.choice([-1, 1], r.size)
    first = mean * special.erf(mean / (sd * np.sqrt(2))) + sd * np.sqrt(2 / np.pi) * np.exp(
        -(r**2) / 2
    )
    with np.errstate(divide="ignore"):
        paper = first / np.sqrt(sd**2 + mean**2 - first**2)
    with jax.enable_x64(True):
        ours = np.asarray(
            score_weights("snr", jnp.asarray(mean), jnp.asarray(sd), None, jax.random.key(0))
        )
        folded = np.asarray(
            score_weights("mean_abs", jnp.asarray(mean), jnp.asarray(sd), None, jax.random.key(0))
        )
    order = np.argsort(ours)
    # above, theirs loses all digits of E|t|^2 - (E|t|)^2 to rounding, in double precision too
    below = ours[order] < 5
    assert (np.diff(paper[order][below]) > -1e-9).all()
    np.testing.assert_allclose(folded, first, rtol=1e-10)
    lowest = set(order[:200_000].tolist())
    assert lowest == set(np.argsort(paper)[:200_000].tolist())


def test_evidence_gain_is_the_change_of_the_log_evidence():
    rng = np.random.default_rng(1)
    x, noise, prior = rng.normal(size=30), 0.7, 1.4
    y = 0.2 * x + noise * rng.normal(size=30)
    precision = 1 / prior**2 + x @ x / noise**2
    mean, sd = x @ y / noise**2 / precision, 1 / np.sqrt(precision)
    with_weight = stats.multivariate_normal(
        np.zeros(30), noise**2 * np.eye(30) + prior**2 * np.outer(x, x)
    ).logpdf(y)
    without = stats.norm.logpdf(y, 0, noise).sum()
    assert float(evidence_gain(mean, sd, prior)) == pytest.approx(without - with_weight, rel=1e-5)


@pytest.mark.parametrize(
    "structure",
    [
        pytest.param(s, marks=() if s in ("unstructured", "fan_in") else pytest.mark.slow)
        for s in (*STRUCTURES, "global")
    ],
)
@pytest.mark.slow
def test_what_grows_has_the_largest_gradients_by_autodiff(structure):
    X, y = regression()
    settings = {"allocation": "global"} if structure == "global" else {"structure": structure}
    training, state, data = make_training(
        bdl.BNN(hidden=(24, 20)), X, y, density=0.7 if structure == "block:4" else 0.5, **settings
    )
    layout, key = training.layout, jax.random.fold_in(named_key(training.key, "exchanges"), 7)
    gradients, priors = training.gradient_factors(state, key, data)
    mean, sd = moments_of(state)

    class Shifted(SparseProduct):
        """A product with a dense matrix added to the means."""

        def layer_outputs(self, name, h, rows):
            return super().layer_outputs(name, h, rows) + shifts[name] @ h

    shifts = {}

    def likelihood(given, key):
        shifts.update(given)
        product = Shifted(
            layout, state.index, mean, sd, named_key(named_key(key, "draws"), "weights"), "local"
        )
        values, _ = training.objective.draw_sites(
            state.params["normals"], named_key(named_key(key, "draws"), "sites")
        )
        rows = training.draw_rows(key, 16)
        return (
            training.sites.joint(state.params["points"] | values, product, rows, *data).likelihood
            / training.total
        )

    zeros = {name: jnp.zeros(layout.flat_shape(name)) for name in layout.shapes}
    dense = mean_gradient(likelihood, zeros, key)
    exchanged = 0
    for store, pattern in layout.patterns.items():
        most = max_exchanged(pattern, 0.3)
        if not most:
            continue
        made = training.plan(
            store, most, state, gradients, priors, jnp.asarray(0.3), jax.random.key(0)
        )
        added = 0
        if structure == "global":
            assert store in (GLOBAL, "layer2.weight")
            parts = [
                np.abs(dense[name]).ravel() * float(priors[name].sd)
                for name, _ in layout.members(store)
            ]
            scores = np.concatenate(parts)[None]
        else:
            padded = np.zeros(pattern.padded_shape)
            padded[: pattern.shape[0], : pattern.shape[1]] = np.abs(dense[store])
            (rows, columns), (a, b) = pattern.grid, pattern.tile
            scores = (
                padded.reshape(rows, a, columns, b)
                .sum((1, 3))
                .reshape(pattern.groups, pattern.candidates)
            )
        np.put_along_axis(scores, np.asarray(state.index[store]), -1.0, axis=1)
        for group in range(pattern.groups):
            new = sorted(
                set(np.asarray(made.index)[group].tolist())
                - set(np.asarray(state.index[store])[group].tolist())
            )
            added += len(new)
            best = np.argsort(-scores[group])[: len(new)]
            np.testing.assert_allclose(
                sorted(scores[group][new]), sorted(scores[group][best]), rtol=1e-4
            )
        assert added == np.asarray(made.fresh).sum()
        exchanged += added
    assert exchanged > 0


@pytest.mark.slow
def test_new_weights_begin_at_the_initial_scale_and_the_optimiser_moves_along():
    X, y = regression()
    training, state, data = make_training(
        bdl.BNN(hidden=(20, 20)), X, y, initial_scale=0.037, density=0.4
    )
    step, exchange = jax.jit(training.step), jax.jit(training.exchange)
    for i in range(5):
        state, _ = step(i, state, data)
    after, share = exchange(state, 5, 0.3, data)
    assert 0.1 < float(share) < 0.35
    name = "layer1.weight"
    before_index, index = np.asarray(state.index[name])[0], np.asarray(after.index[name])[0]
    kept = np.isin(index, before_index)
    places = np.searchsorted(before_index, index[kept])
    moved = {
        "mean": after.params["weights"][name]["mean"],
        "raw": after.params["weights"][name]["raw"],
    }
    for part, value in moved.items():
        old = np.asarray(state.params["weights"][name][part])[0, :, 0, 0]
        np.testing.assert_array_equal(np.asarray(value)[0, kept, 0, 0], old[places])
    assert (np.asarray(moved["mean"])[0, ~kept] == 0).all()
    np.testing.assert_allclose(scale_of(np.asarray(moved["raw"])[0, ~kept]), 0.037, rtol=1e-5)
    for part in ("mu", "nu"):
        old, new = (getattr(s.optimizer[0], part)["weights"][name]["mean"] for s in (state, after))
        np.testing.assert_array_equal(
            np.asarray(new)[0, kept, 0, 0], np.asarray(old)[0, places, 0, 0]
        )
        assert (np.asarray(new)[0, ~kept] == 0).all()
    assert kept.sum() < len(kept)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.clip(1.0), optax.lion(1e-3)),
        pytest.param(optax.sgd(1e-3), marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_any_optimiser_works(optimizer):
    X, y = regression()
    post = bdl.fit(
        bdl.BNN(hidden=(10,)),
        X,
        y,
        engine=SSVI(steps=250, density=0.4, optimizer=optimizer),
        progress=False,
    )
    assert np.isfinite(post.raw.losses).all()


@pytest.mark.slow
def test_optimisers_whose_state_cannot_move_are_refused():
    X, y = regression()
    with pytest.raises(ProblemError, match="cannot move with them"):
        bdl.fit(
            bdl.BNN(hidden=(10,)),
            X,
            y,
            engine=SSVI(density=0.4, optimizer=optax.adafactor(1e-2)),
            progress=False,
        )


def test_evidence_removes_only_where_it_gains():
    X, y = regression()
    training, state, data = make_training(
        bdl.BNN(hidden=(20,), standardize=False), X, y, removal="evidence", density=0.4
    )
    name = "layer0.weight"
    leaf = state.params["weights"][name]
    sure = jax.tree.map(jnp.zeros_like, leaf) | {
        "mean": 3 * jnp.ones_like(leaf["mean"]),
        "raw": -4 + jnp.zeros_like(leaf["raw"]),
    }
    weak = jnp.arange(leaf["mean"].size) < 5
    sure["mean"] = jnp.where(weak[None, :, None, None], 0.0, sure["mean"])
    state = state._replace(
        params=state.params | {"weights": state.params["weights"] | {name: sure}}
    )
    after, _ = jax.jit(training.exchange)(state, 0, 0.9, data)
    gone = np.setdiff1d(np.asarray(state.index[name]), np.asarray(after.index[name]))
    assert set(gone.tolist()) <= set(np.asarray(state.index[name])[0, :5].tolist())
    assert len(gone) > 0
