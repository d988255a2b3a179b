"""Whether a file is what was written: sizes before anything is read, hashes, and signatures.

The manifest holds the SHA-256 of every other part of the file, and one of itself without that
entry. These tell damage. Who can write the file can make them anew: against that there is a
signature (HMAC) with a key that the file does not hold.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bayesdl.saving.errors import BundleError
from bayesdl.typing import StoredArrays
from inference.core.typing import Info

MEMBERS = ("manifest.json", "arrays.safetensors", "posterior.nc")
# the entry of the manifest that holds the hashes
ENTRY = "integrity"
# a part of a file may be so many times as large as it is compressed, or so many bytes
MOST_TIMES, MOST_BYTES = 20, 32_000_000

SigningKey = str | bytes | None
"""A secret that files are signed with; None for no signature."""


def compression_of(content: bytes) -> int:
    """Return how a part is stored: what shrinks beyond the limit of readers is stored as it is."""
    if len(content) > MOST_BYTES and MOST_TIMES * len(zlib.compress(content)) < len(content):
        return zipfile.ZIP_STORED
    return zipfile.ZIP_DEFLATED


def check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse a zip whose parts are not those of a bundle, or are absurdly large, unread.

    Raises:
        BundleError: naming the part.
    """
    seen = [entry.filename for entry in archive.infolist()]
    for entry in archive.infolist():
        name = entry.filename
        if name not in MEMBERS or seen.count(name) > 1:
            what = "twice" if name in MEMBERS else "which no bundle has"
            raise BundleError(f"{path} is damaged: it holds {name!r}, {what}. Save it again.")
        if entry.file_size > max(MOST_BYTES, MOST_TIMES * entry.compress_size):
            raise BundleError(
                f"{path} is not read: {name} would be {entry.file_size / 1e6:,.0f} MB out of "
                f"{entry.compress_size / 1e6:,.1f} MB, which no saved fit is. Save it again."
            )


def sealed(manifest: Info, parts: Mapping[str, bytes], key: SigningKey = None) -> Info:
    """Return a manifest with the hashes of all parts, and with a signature where there is a key.

    Args:
        manifest: the manifest.
        parts: the other parts of the file.
        key: the secret.
    """
    # as a reader will find it
    manifest = json.loads(json.dumps(manifest))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    hashes["manifest.json"] = _hash_manifest(manifest, hashes)
    if key is not None:
        hashes["signature"] = _sign(hashes["manifest.json"], key)
    return manifest | {ENTRY: hashes}


def check_seal(path: Path, manifest: Info, parts: Mapping[str, bytes], key: SigningKey) -> None:
    """Refuse a file whose parts do not match their hashes, or that is not signed with the key.

    Files of earlier versions have no hashes; with a key they are refused.

    Raises:
        BundleError: naming the part.
    """
    hashes = manifest.get(ENTRY)
    if hashes is None and key is None:
        return
    if not isinstance(hashes, dict):
        raise BundleError(f"{path} is not signed: save it with key=..., or load it without a key.")
    rest = {name: value for name, value in manifest.items() if name != ENTRY}
    found = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    found["manifest.json"] = _hash_manifest(rest, found)
    for name in found | hashes:
        if name != "signature" and found.get(name) != hashes.get(name):
            raise BundleError(f"{path} is damaged: {name} does not match its hash. Save it again.")
    if key is None:
        return
    signature = str(hashes.get("signature"))
    if not hmac.compare_digest(_sign(found["manifest.json"], key), signature):
        raise BundleError(
            f"{path} is not signed with this key: somebody else wrote or changed it, or the key is "
            "another one."
        )


def refuse_bad_numbers(path: Path, arrays: StoredArrays, prefixes: tuple[str, ...] = ("",)) -> None:
    """Refuse parameters that are not finite, or not in a precision that fits are made in.

    Args:
        path: the path of the file, for errors.
        arrays: the arrays of the file.
        prefixes: the beginnings of the names of parameters.

    Raises:
        BundleError: naming the array.
    """
    for name, values in arrays.items():
        if not name.startswith(prefixes) or values.dtype.kind != "f":
            continue
        if values.dtype.itemsize < 4:
            raise BundleError(f"{path} is damaged: array {name} is {values.dtype}. Save it again.")
        bad = values.size - int(np.isfinite(values).sum())
        if bad:
            raise BundleError(
                f"{path} cannot be used: {bad} of {values.size} numbers of array {name} are not "
                "finite. It is damaged, or the fit diverged: fit again."
            )


def check_scales(schema: object) -> None:
    """Refuse shifts and scales, of whatever part of a schema, that no data have.

    Raises:
        ValueError: naming the part.
    """
    if isinstance(schema, tuple | list):
        for part in schema:
            check_scales(part)
    if not dataclasses.is_dataclass(schema):
        return
    parts = {field.name: getattr(schema, field.name) for field in dataclasses.fields(schema)}
    for name in ("shift", "scale"):
        # of a formula the prior of a scale, which is looked at below
        if dataclasses.is_dataclass(parts.get(name)):
            continue
        values = np.asarray(parts.get(name, 1.0), float)
        if not np.isfinite(values).all() or (name == "scale" and not (values > 0).all()):
            raise ValueError(f"{type(schema).__name__} has {name}={parts[name]!r}")
    shifts, scales = (np.size(parts.get(name, ())) for name in ("shift", "scale"))
    if shifts != scales and "shift" in parts:
        raise ValueError(f"{type(schema).__name__} has {shifts} shifts and {scales} scales")
    for part in parts.values():
        check_scales(part)


def _hash_manifest(manifest: Info, hashes: Mapping[str, str]) -> str:
    """Return the SHA-256 of a manifest and of the hashes of the other parts."""
    text = json.dumps([manifest, dict(hashes)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _sign(digest: str, key: str | bytes) -> str:
    """Return the HMAC of a hash.

    Raises:
        BundleError: for a key that is no secret.
    """
    secret = key.encode() if isinstance(key, str) else key
    if not isinstance(secret, bytes) or not secret:
        raise BundleError(f"key={type(key).__name__}: expected a secret, as bytes or text.")
    return hmac.new(secret, digest.encode(), hashlib.sha256).hexdigest()
