"""Files that are well formed and wrong, made from a good one with a fixed seed."""

import copy
import json
import random
import zipfile

import numpy as np
from safetensors.numpy import load, save

VALUES = [None, -1, 0, True, 1e300, "x", "", [], {}, [1], {"class": "BNN"}, 10**9, [10**9], -0.5]


def parts_of(path):
    """Return manifest, arrays and other parts of a bundle."""
    with zipfile.ZipFile(path) as archive:
        others = {name: archive.read(name) for name in archive.namelist()}
    return (
        json.loads(others.pop("manifest.json")),
        {name: value.copy() for name, value in load(others.pop("arrays.safetensors")).items()},
        others,
    )


def write(path, manifest, arrays, others):
    """Write a zip with new checksums, and without hashes as files of before."""
    manifest = {name: value for name, value in manifest.items() if name != "integrity"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("arrays.safetensors", save(arrays))
        for name, content in others.items():
            archive.writestr(name, content)
    return path


def places(tree, at=()):
    """Yield the places of all values in JSON data."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield (*at, key)
            yield from places(value, (*at, key))


def manifests(manifest, count, seed):
    """Yield copies of a manifest in which one value is another, with what was changed."""
    rng = random.Random(seed)
    every = [at for at in places(manifest) if at[0] not in ("integrity", "versions")]
    for _ in range(count):
        changed, at, value = copy.deepcopy(manifest), rng.choice(every), rng.choice(VALUES)
        inside = changed
        for key in at[:-1]:
            inside = inside[key]
        if inside[at[-1]] == value and type(inside[at[-1]]) is type(value):
            continue
        inside[at[-1]] = value
        yield f"{'/'.join(map(str, at))} = {value!r}", changed


def array_sets(arrays, prefixes):
    """Yield copies of arrays in which one is damaged, with what was changed."""
    damages = {
        "NaN": lambda a: np.full_like(a, np.nan),
        "infinite": lambda a: np.full_like(a, np.inf),
        "half": lambda a: a.astype(np.float16),
        "cut": lambda a: a[:-1],
        "longer": lambda a: np.concatenate([a, a]),
        "absent": None,
    }
    for name in arrays:
        if not name.startswith(prefixes) or arrays[name].dtype.kind != "f" or not arrays[name].ndim:
            continue
        for damage, change in damages.items():
            changed = dict(arrays)
            if change is None:
                del changed[name]
            else:
                changed[name] = change(arrays[name])
            yield f"{name} {damage}", changed
