"""No file is silently wrong: what was changed is refused in words, quickly and in little memory."""

import json
import os
import random
import tracemalloc
import zipfile

import crafted
import numpy as np
import pytest

import bayesdl as bdl
from bayesdl import recommend

X = np.linspace(-1, 1, 15)[:, None]
Y = np.sin(3 * X[:, 0])
NEW = X[:4]


@pytest.fixture(scope="module")
def laplace(tmp_path_factory):
    post = bdl.fit(bdl.BNN(hidden=(4,)), X, Y, engine=bdl.Laplace(), progress=False)
    return post, post.save(tmp_path_factory.mktemp("laplace") / "a.bdl")


@pytest.fixture(scope="module")
def ease(tmp_path_factory):
    rows = np.random.default_rng(0).integers(0, 2, (20, 6))
    model = recommend.EASE(l2=5.0).fit(rows)
    return model, model.save(tmp_path_factory.mktemp("ease") / "a.bdl")


def rewritten(path, new, change):
    """A copy of a file in which `change(name, content)` gives the parts."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w") as copy:
        for name in old.namelist():
            copy.writestr(name, change(name, old.read(name)))
    return new


@pytest.mark.parametrize("value", [0.0, 1e3, np.nan])
def test_an_array_that_was_changed_is_refused(laplace, tmp_path, value):
    def change(name, content):
        if name != "arrays.safetensors":
            return content
        arrays = {k: v.copy() for k, v in crafted.load(content).items()}
        arrays["result/params/loc"].flat[0] = value
        return crafted.save(arrays)

    path = rewritten(laplace[1], tmp_path / "b.bdl", change)
    with pytest.raises(bdl.BundleError, match=r"arrays\.safetensors does not match its hash"):
        bdl.load(path)


def test_a_manifest_that_was_changed_is_refused(laplace, tmp_path):
    def change(name, content):
        if name != "manifest.json":
            return content
        return json.dumps(json.loads(content) | {"seed": 7})

    path = rewritten(laplace[1], tmp_path / "b.bdl", change)
    with pytest.raises(bdl.BundleError, match=r"manifest\.json does not match its hash"):
        bdl.load(path)


@pytest.mark.parametrize("schema", [0, -1, True, 1.5, "1", None, [1], 99])
def test_schemas_that_nobody_wrote_are_refused(laplace, tmp_path, schema):
    manifest, arrays, others = crafted.parts_of(laplace[1])
    path = crafted.write(tmp_path / "b.bdl", manifest | {"schema": schema}, arrays, others)
    with pytest.raises(bdl.BundleError, match=r"has schema|not a bayesdl bundle"):
        bdl.load(path)


def test_signed_files(laplace, ease, tmp_path):
    path = laplace[0].save(tmp_path / "b.bdl", key="secret")
    same = bdl.load(path, key=b"secret").predict(NEW).mean
    np.testing.assert_array_equal(same, laplace[0].predict(NEW).mean)
    np.testing.assert_array_equal(bdl.load(path).predict(NEW).mean, same)
    with pytest.raises(bdl.BundleError, match="not signed with this key"):
        bdl.load(path, key="other")
    with pytest.raises(bdl.BundleError, match="not signed"):
        bdl.load(laplace[1], key="secret")
    with pytest.raises(bdl.BundleError, match="expected a secret"):
        laplace[0].save(path, key="")
    # who has not the key cannot sign: hashes made anew do not help
    manifest, arrays, others = crafted.parts_of(path)
    arrays["result/params/loc"] += 1
    forged = crafted.write(tmp_path / "c.bdl", manifest, arrays, others)
    with pytest.raises(bdl.BundleError, match="not signed"):
        bdl.load(forged, key="secret")
    signed = ease[0].save(tmp_path / "r.bdl", key="secret")
    assert recommend.load(signed, key="secret").items_.tolist() == ease[0].items_.tolist()
    with pytest.raises(bdl.BundleError, match="not signed with this key"):
        recommend.load(signed, key="other")


def test_parts_that_no_bundle_has_and_parts_twice_are_refused(laplace, tmp_path):
    for name in ("../../evil", "manifest.json"):
        path = tmp_path / "b.bdl"
        path.write_bytes(laplace[1].read_bytes())
        with zipfile.ZipFile(path, "a") as archive, pytest.warns() if name[0] == "m" else _none():
            archive.writestr(name, "{}")
        with pytest.raises(bdl.BundleError, match="it holds"):
            bdl.load(path)


class _none:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("name", ["manifest.json", "arrays.safetensors"])
def test_a_small_file_takes_little_memory(laplace, tmp_path, name):
    path = tmp_path / "b.bdl"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as part,
    ):
        for _ in range(200):
            part.write(bytes(1_000_000))
    tracemalloc.start()
    with pytest.raises(bdl.BundleError, match="200 MB out of"):
        bdl.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * os.path.getsize(path) + 2_000_000


def test_arrays_that_hardly_shrink_too_much_are_saved_and_load(tmp_path):
    rows = np.zeros((5_000_000, 2), np.float32)
    from bayesdl.saving.archive import read, write

    manifest = {"format": "x", "schema": 1, "versions": {}}
    path = write(tmp_path / "a.bdl", manifest, {"data/0": rows}, {})
    assert read(path, "x", ())[1]["data/0"].shape == rows.shape


def outcome(path, loader, use, expected):
    """Return what a file gives: "refused", "same", or what is wrong."""
    try:
        found = use(loader(path))
    except (bdl.BundleError, bdl.DataError, bdl.ModelError, bdl.UnsupportedError):
        return "refused"
    except Exception as error:
        return f"raw {type(error).__name__}: {error}"
    return "same" if np.array_equal(found, expected) else "other numbers"


def arrays_are_refused(path, loader, use, expected, tmp_path, prefixes):
    manifest, arrays, others = crafted.parts_of(path)
    for what, changed in crafted.array_sets(arrays, prefixes):
        new = crafted.write(tmp_path / "b.bdl", manifest, changed, others)
        assert outcome(new, loader, use, expected) == "refused", what


def test_parameters_without_hashes_are_looked_at(laplace, ease, tmp_path):
    post, path = laplace
    expected = post.predict(NEW).mean
    arrays_are_refused(
        path, bdl.load, lambda p: p.predict(NEW).mean, expected, tmp_path, "result/params/"
    )
    model, path = ease
    rows = np.eye(6)[:2]
    arrays_are_refused(
        path,
        recommend.load,
        lambda m: m.recommend(rows, k=3).scores,
        model.recommend(rows, k=3).scores,
        tmp_path,
        "",
    )


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_no_raw_error_where_one_value_of_the_manifest_is_another(laplace, ease, tmp_path, count):
    for (fit, path), loader, use in (
        (laplace, bdl.load, lambda p: p.predict(NEW).mean),
        (ease, recommend.load, lambda m: m.recommend(np.eye(6)[:2], k=3).scores),
    ):
        manifest, arrays, others = crafted.parts_of(path)
        for what, changed in crafted.manifests(manifest, count, seed=0):
            new = crafted.write(tmp_path / "b.bdl", changed, arrays, others)
            assert not outcome(new, loader, use, use(fit)).startswith("raw"), what


@pytest.mark.parametrize("count", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_a_bit_that_flips_is_seen(laplace, tmp_path, count):
    post, path = laplace
    expected, content, rng = post.predict(NEW).mean, path.read_bytes(), random.Random(0)
    for _ in range(count):
        damaged, at = bytearray(content), rng.randrange(len(content))
        damaged[at] ^= 1 << rng.randrange(8)
        (tmp_path / "b.bdl").write_bytes(damaged)
        found = outcome(tmp_path / "b.bdl", bdl.load, lambda p: p.predict(NEW).mean, expected)
        assert found in ("refused", "same"), at
