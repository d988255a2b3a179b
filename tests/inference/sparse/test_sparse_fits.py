"""Sparse subspace VI: fits, smaller budgets, guides, resumed runs and costs."""

import functools

import jax
import numpy as np
import optax
import pytest
from sparse_toys import fitted, make_training, regression

import bayesdl as bdl
from inference.core.progress import Silent
from inference.sparse import costs
from inference.sparse.engine import SSVI
from inference.sparse.patterns.pattern import BudgetError
from inference.sparse.training import runs


def test_fits_are_saved_and_loaded(tmp_path):
    post = fitted()
    again = bdl.load(post.save(tmp_path / "a.bdl"))
    np.testing.assert_array_equal(again.predict().mean, post.predict().mean)
    assert repr(bdl.sparse.report(again)) == repr(bdl.sparse.report(post))


@pytest.mark.slow
def test_the_report_counts_what_is_there():
    post = fitted("fan_in")
    report = bdl.sparse.report(post)
    masks = bdl.sparse.masks(post)
    for name, mask in masks.items():
        assert mask.sum() == report.layers[name]["active"]
    assert report.active == sum(mask.sum() for mask in masks.values())
    assert report.density <= 0.4
    # every unit has as many inputs
    assert (masks["layer0.weight"].sum(1) == masks["layer0.weight"].sum(1)[0]).all()
    assert report.bytes_stored == sum(np.asarray(v).nbytes for v in post.raw.params.values())
    assert "exchanges" in repr(report)


@pytest.mark.slow
def test_rebudget_keeps_the_best():
    post = fitted()
    small = bdl.sparse.rebudget(post, 0.2)
    report = bdl.sparse.report(small)
    assert report.density <= 0.2
    for name, mask in bdl.sparse.masks(small).items():
        assert not (mask & ~bdl.sparse.masks(post)[name]).any()
    snr = np.abs(post.raw.params["layer1.weight/mean"]) / post.raw.params["layer1.weight/scale"]
    kept = np.isin(post.raw.params["layer1.weight/index"], small.raw.params["layer1.weight/index"])
    assert snr[kept].min() >= snr[~kept].max()
    assert small.predict().mean.shape == (200,)
    # the model stays the same
    assert small.raw.decompression.layout.shares == post.raw.decompression.layout.shares
    by_evidence = bdl.sparse.report(bdl.sparse.rebudget(post))
    assert by_evidence.active < bdl.sparse.report(post).active
    with pytest.raises(BudgetError, match="between 0 and"):
        bdl.sparse.rebudget(post, 0.5)


@pytest.mark.slow
def test_rebudget_by_evidence_needs_normal_priors():
    X, y = regression()
    model = bdl.BNN(hidden=(), prior=bdl.priors.Laplace())
    post = bdl.fit(model, X, y, engine=SSVI(density=0.6, steps=50), progress=False)
    with pytest.raises(BudgetError, match="is Laplace, not normal"):
        bdl.sparse.rebudget(post)


@pytest.mark.slow
def test_rebudget_by_evidence_needs_single_weights():
    with pytest.raises(BudgetError, match="give a density"):
        bdl.sparse.rebudget(fitted("fan_in"))


@pytest.mark.slow
def test_the_guide_gives_numpyro_the_same_posterior():
    from numpyro.infer import Predictive

    post = fitted()
    drawn = Predictive(bdl.sparse.guide(post), num_samples=500)(
        jax.random.key(0), *post.problem.args
    )
    weights = np.asarray(drawn["layer1.weight"])
    mask = bdl.sparse.masks(post)["layer1.weight"]
    assert (weights[:, ~mask] == 0).all()
    mean = post.raw.decompression.layout.matrices(
        post.raw.decompression.index,
        {n: post.raw.params[f"{n}/mean"] for n in post.raw.decompression.layout.patterns},
    )["layer1.weight"]
    z = (weights.mean(0) - mean)[mask] / (weights.std(0)[mask] / np.sqrt(500))
    assert np.abs(z).max() < 5
    sigma = np.log(np.asarray(drawn["sigma"]))
    assert abs(sigma.mean() - post.raw.params["sigma/loc"]) < 4 * sigma.std() / np.sqrt(500)


class Killed(Exception):
    pass


class KillAfter(Silent):
    def __init__(self, steps):
        self.left = steps

    def advance(self, steps, **facts):
        self.left -= steps
        if self.left <= 0:
            raise Killed


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(tmp_path):
    X, y = regression(200)
    call = functools.partial(
        bdl.fit, bdl.BNN(hidden=(12, 12)), X, y, engine=SSVI(steps=550, density=0.4, every=50)
    )
    whole = call(progress=False)
    with pytest.raises(Killed):
        call(progress=KillAfter(300), checkpoint=tmp_path / "run", every=100)
    resumed = call(progress=False, checkpoint=tmp_path / "run", every=100)
    finished = call(progress=False, checkpoint=tmp_path / "run", every=100)
    for other in (resumed, finished):
        for name, value in whole.raw.arrays().items():
            np.testing.assert_array_equal(other.raw.arrays()[name], value)
        assert other.raw.info["exchanges"] == whole.raw.info["exchanges"]
    with pytest.raises(bdl.CheckpointError, match="optimizer from None to"):
        other = SSVI(steps=550, density=0.4, every=50, optimizer=optax.adam(1e-6))
        bdl.fit(
            bdl.BNN(hidden=(12, 12)),
            X,
            y,
            engine=other,
            checkpoint=tmp_path / "run",
            progress=False,
        )
    with pytest.raises(bdl.CheckpointError, match="density"):
        bdl.fit(
            bdl.BNN(hidden=(12, 12)),
            X,
            y,
            engine=SSVI(steps=550, density=0.3, every=50),
            checkpoint=tmp_path / "run",
            progress=False,
        )


@pytest.mark.slow
def test_costs_of_a_large_network():
    """784-1024-1024-10 at 5 %, batches of 128, beside dense mean-field VI."""
    rng = np.random.default_rng(0)
    X, y = rng.random((256, 784), dtype=np.float32), rng.integers(0, 10, 256)
    model = bdl.BNN(
        hidden=(1024, 1024), activation="relu", likelihood=bdl.Categorical(), standardize=False
    )
    found = {}
    cases = {
        "dense": {"density": 1.0},
        "unstructured": {},
        "fan_in": {"structure": "fan_in"},
        "block:16": {"structure": "block:16"},
    }
    for name, settings in cases.items():
        given = {"density": 0.05, "batch_size": 128} | settings
        training, state, data = make_training(model, X, y, **given)
        run = runs.TrainingRun(training, None)
        run.compile("step", training.step, 0, state, data)
        work = costs.count_operations(
            training.layout,
            training.output_rows(state, data),
            100,
            3,
            0.3 if name != "dense" else 0.0,
        )
        stored = runs.count_bytes((state.params, state.index))
        found[name] = (
            stored,
            stored + runs.count_bytes(state.optimizer),
            run.temporary["step"],
            work,
        )
    dense = found.pop("dense")
    for name, (stored, persistent, temporary, work) in found.items():
        assert stored <= 1.6 * 0.05 * dense[0]
        assert persistent <= 1.25 * 0.05 * dense[1]
        assert temporary <= 1.5 * dense[2]
        ratio = (work["step"] + work["exchanges_per_step"]) / work["dense"]
        # a transient kernel saves no operations
        assert ratio <= 0.06 if name != "unstructured" else 0.99 < ratio < 1.02
