"""What every engine and every model keeps, as functions that tests call on any of them."""

import numpy as np
import pytest

import bayesdl as bdl
from bayesdl.cli.support_table import problem_of
from bayesdl.saving.serialization import from_data, to_data
from inference.core.result import AbstractResult


def fitted(example, engine, seed):
    return bdl.fit(
        example.model, *example.data, **example.named, engine=engine, seed=seed, progress=False
    )


def check_runs_or_says_why_not(cls, example):
    """An engine refuses a problem with a reason, or runs it and gives the same draws again."""
    problem, engine = problem_of(example), cls.example()
    if engine.supports(problem) is not None:
        words = f"{cls.__name__} cannot run this model: .*Engines that can: .*(NUTS|Stacking)"
        with pytest.raises(bdl.UnsupportedError, match=words):
            fitted(example, engine, 3)
        return
    post, again, other = (fitted(example, engine, seed) for seed in (3, 3, 4))
    assert isinstance(post.raw, AbstractResult)
    for part in (lambda fit: fit.samples, lambda fit: fit.raw.arrays()):
        for name, value in part(post).items():
            np.testing.assert_array_equal(value, part(again)[name], err_msg=name)
    if post.samples:
        latent = next(iter(problem.latents))
        assert not np.array_equal(post.samples[latent], other.samples[latent])
        assert all(np.isfinite(value).all() for value in post.samples.values())
        assert set(problem.latents) <= set(post.samples)
    centre, same = (centre_of(fit.predict()) for fit in (post, again))
    assert len(centre) == example.data[0].shape[0]
    assert np.isfinite(centre).all()
    np.testing.assert_array_equal(centre, same)


def centre_of(prediction):
    """The mean of numbers, the probabilities of classes."""
    return prediction.probs if prediction.target.kind == "class" else prediction.mean


def check_round_trip(engine, example, path):
    """A saved fit comes back with the same arrays, draws and predictions."""
    post = fitted(example, engine, 0)
    model = example.model
    given = model if callable(model) or model.holds_code else None
    back = bdl.load(post.save(path), model=given)
    assert back.engine == engine
    for part in (lambda fit: fit.raw.arrays(), lambda fit: fit.samples):
        before, after = part(post), part(back)
        assert set(before) == set(after)
        for key, value in before.items():
            np.testing.assert_array_equal(value, after[key], err_msg=key)
    y = example.named["y"] if example.named else example.data[-1]
    np.testing.assert_array_equal(post.predict().log_prob(y), back.predict().log_prob(y))


def check_settings_are_plain_data(cls):
    """An engine's settings become data and the same engine again."""
    engine = cls.example()
    assert from_data(to_data(engine)) == engine
