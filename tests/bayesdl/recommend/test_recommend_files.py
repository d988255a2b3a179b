"""Recommenders in files: bundles to the bit, and files that cannot be written or read."""

import json
import zipfile

import numpy as np
import pytest
from recommend_toys import EVENT_ITEMS as ITEMS
from recommend_toys import events, matrix

from bayesdl import BundleError
from bayesdl.recommend import (
    EASE,
    Anneal,
    Blend,
    HeldOut,
    MultDAE,
    MultVAE,
    PerUser,
    Popularity,
    load,
)
from bayesdl.recommend.estimator import NotFittedError
from bayesdl.recommend.validation import STRATEGIES
from bayesdl.saving import bundle as posterior_bundle

# The sets of users are so small that no list can be matched.
pytestmark = pytest.mark.filterwarnings("ignore:.* hits of validation users are expected")
TINY = {"hidden": (6,), "latent": 3, "epochs": 2, "batch_size": 40, "progress": False}


TRAIN = matrix(events())


NEW = matrix(events(12, seed=1))


SHOWN = NEW.multiply(np.arange(ITEMS)[None] % 3 > 0).tocsr()


HELD = HeldOut(SHOWN, NEW - SHOWN)


NAMES = np.array([f"film {i}" for i in range(ITEMS)])


FEATURES = np.random.default_rng(0).normal(size=(ITEMS, 3)).astype(np.float32)


MAKERS = {
    "popularity": lambda: Popularity().fit(TRAIN, HELD),
    "ease": lambda: EASE(l2=20.0).fit(TRAIN, HELD, items=NAMES),
    "vae": lambda: MultVAE(**TINY).fit(TRAIN, HELD, items=NAMES.astype(object)),
    "vamp": lambda: MultVAE(**TINY, prior="vamp", beta=Anneal(cap=0.3)).fit(TRAIN),
    "composite": lambda: MultVAE(**TINY, prior="composite", beta=PerUser(0.01), item_block=16).fit(
        TRAIN
    ),
    "features": lambda: MultVAE(**TINY, beta=0.5).fit(TRAIN, item_features=FEATURES),
    "dae": lambda: MultDAE(**TINY | {"hidden": ()}).fit(
        TRAIN, HELD, items=np.arange(ITEMS, dtype=np.int32) + 7
    ),
    "blend": lambda: Blend([EASE(l2=20.0), MultVAE(**TINY), Popularity()]).fit(
        TRAIN, HELD, items=NAMES
    ),
    "nested": lambda: Blend(
        [Blend([Popularity(), EASE()], (1.0, 2.0)), EASE(l2=5.0)], (1.0, 1.0)
    ).fit(TRAIN),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A popularity recommender in a file."""
    return MAKERS["popularity"]().save(tmp_path_factory.mktemp("saved") / "popular.bdl")


COSTLY = ("vamp", "composite", "blend", "nested")


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k in COSTLY else k for k in MAKERS]
)
def test_a_loaded_recommender_recommends_the_same_to_the_bit(kind, tmp_path):
    model = MAKERS[kind]()
    path = model.save(tmp_path / "model.bdl")
    other = load(path)
    assert type(other) is type(model) and repr(other) == repr(model)
    assert other.temperature_ == model.temperature_ and other.items_.dtype == model.items_.dtype
    for strategy in STRATEGIES if kind in ("ease", "blend") else ["mean"]:
        asked = {
            "k": ITEMS // 2,
            "strategy": strategy,
            "refine_steps": 2 * model.refines,
            "seed": 3,
        }
        one, two = model.recommend(NEW, **asked), other.recommend(NEW, **asked)
        for name in ("items", "scores", "probabilities", "lower", "upper"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    if not isinstance(model, Popularity):
        found, expected = (m.similar_items(model.items_[3]) for m in (other, model))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    if isinstance(model, MultVAE | MultDAE):
        assert (other.beta_, other.history_, other.best_epoch_) == (
            model.beta_,
            model.history_,
            model.best_epoch_,
        )
    if isinstance(model, Blend):
        assert other.weights_ == model.weights_ and other.members == model.members
    again = other.save(tmp_path / "again.bdl")
    with zipfile.ZipFile(path) as first, zipfile.ZipFile(again) as second:
        assert all(first.read(name) == second.read(name) for name in first.namelist())


def test_more_items_by_features_are_saved_too(tmp_path):
    model = MAKERS["features"]().with_items(FEATURES[:2], [100, 101])
    other = load(model.save(tmp_path / "model.bdl"))
    np.testing.assert_array_equal(
        next(model.scores(np.ones(ITEMS + 2)))[1], next(other.scores(np.ones(ITEMS + 2)))[1]
    )
    np.testing.assert_array_equal(
        other.with_items(FEATURES[:1], [102]).items_[-3:], [100, 101, 102]
    )


def test_a_function_as_beta_becomes_the_number_that_was_used(tmp_path):
    model = MultVAE(**TINY, beta=lambda done: 0.1 + 0.1 * done).fit(TRAIN)
    with pytest.warns(UserWarning, match="beta is a function"):
        path = model.save(tmp_path / "model.bdl")
    assert load(path).beta == load(path).beta_ == model.beta_


def test_saving_what_cannot_be_saved(tmp_path):
    for model in (Popularity(), EASE(), MultVAE(), MultDAE(), Blend([EASE(), Popularity()])):
        with pytest.raises(NotFittedError, match="is not fitted: call fit"):
            model.save(tmp_path / "model.bdl")
    stopped = MultVAE(**TINY)
    stopped.start_fit(TRAIN, None, None)  # a fit that was interrupted
    with pytest.raises(NotFittedError, match="is not fitted: call fit"):
        stopped.save(tmp_path / "model.bdl")
    with pytest.raises(BundleError, match=r"label 0\.5: a file holds whole numbers or text"):
        Popularity().fit(TRAIN, items=np.arange(ITEMS) + 0.5).save(tmp_path / "model.bdl")
    with pytest.raises(BundleError, match="Cannot write"):
        MAKERS["popularity"]().save(tmp_path / "absent" / "model.bdl")
    assert not list(tmp_path.iterdir())


def changed(path, new, edit=lambda manifest: manifest, arrays=None):
    """A copy of a bundle with another manifest or other arrays."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w") as archive:
        archive.writestr(
            "manifest.json",
            json.dumps(edit(json.loads(old.read("manifest.json")) | {"integrity": None})),
        )
        archive.writestr(
            "arrays.safetensors", old.read("arrays.safetensors") if arrays is None else arrays
        )
    return new


EDITS = {
    "another kind": (lambda m: m | {"format": "bayesdl"}, "is not a bayesdl-recommender bundle"),
    "newer": (lambda m: m | {"schema": 99}, "has schema 99 .* upgrade bayesdl"),
    "lacks": (
        lambda m: {k: v for k, v in m.items() if k != "recommender"},
        "its manifest lacks 'recommender'",
    ),
    "unknown class": (
        lambda m: m | {"recommender": m["recommender"] | {"class": "Magic"}},
        "holds a 'Magic'",
    ),
    "unknown setting": (
        lambda m: m | {"recommender": m["recommender"] | {"settings": {"x": 1}}},
        "this version cannot read",
    ),
    "no items": (
        lambda m: m | {"recommender": {k: v for k, v in m["recommender"].items() if k != "items"}},
        "cannot read",
    ),
    "other items": (
        lambda m: (
            m | {"recommender": m["recommender"] | {"items": {"type": "<i8", "labels": [1, 2]}}}
        ),
        r"counts has shape \(40,\), expected \(2,\)",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_bundles_that_cannot_be_read(case, saved, tmp_path):
    edit, words = EDITS[case]
    with pytest.raises(BundleError, match=words):
        load(changed(saved, tmp_path / "edited.bdl", edit))


def test_files_that_are_no_bundle(saved, tmp_path):
    from safetensors.numpy import save as to_safetensors

    with pytest.raises(BundleError, match="does not exist"):
        load(tmp_path / "absent.bdl")
    (tmp_path / "text.bdl").write_text("user,item")
    with pytest.raises(BundleError, match="is truncated or not"):
        load(tmp_path / "text.bdl")
    (tmp_path / "cut.bdl").write_bytes(saved.read_bytes()[:-200])
    with pytest.raises(BundleError, match="is truncated or not"):
        load(tmp_path / "cut.bdl")
    with pytest.raises(BundleError, match="array counts has no array"):
        load(changed(saved, tmp_path / "none.bdl", arrays=to_safetensors({"x": np.zeros(2)})))
    # Nor is it the file of a posterior.
    with pytest.raises(BundleError, match="is not a bayesdl bundle"):
        posterior_bundle.load(saved)
