"""A bundle's files: manifest and weights, verified as they are read, replaced in one step each."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as format_safetensors

from model.errors import BundleError
from model.weights import Weights

FORMAT = "umt-bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ENCODER = "encoder.safetensors"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle. Raises BundleError if there is none of a format known here."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"no bundle at {folder}: {MANIFEST} is missing; give a bundle folder with --bundle"
        ) from None
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path} does not describe a umt bundle")
    version = manifest.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise BundleError(f"{path} has no usable format_version, got {version!r}")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {version}, this program reads up to {FORMAT_VERSION}; "
            "install a newer umt-live"
        )
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Put a manifest in place in one step. Raises OSError."""
    _replace_file(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def read_weights(
    folder: Path, name: str, hashes: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    """The weights in one file of a bundle, as float32.

    hashes: the manifest's, by file. Raises BundleError unless hash, names and shapes agree.
    """
    path = folder / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != hashes.get(name):
        raise BundleError(
            f"{path} is damaged or was changed: its SHA-256 is {digest[:12]}..., the manifest says "
            f"{str(hashes.get(name))[:12]}...; fetch the bundle again"
        )
    try:
        weights = parse_safetensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BundleError(f"{path} is not a safetensors file: {error}") from error
    _check_shapes(path, weights, shapes)
    return {key: np.ascontiguousarray(weights[key], dtype=np.float32) for key in shapes}


def write_weights(folder: Path, name: str, weights: Weights) -> str:
    """Put one file of a bundle in place, as float16; returns its SHA-256. Raises OSError."""
    data = format_safetensors({key: value.astype(np.float16) for key, value in weights.items()})
    _replace_file(folder / name, data)
    return hashlib.sha256(data).hexdigest()


def decoder_file(name: str) -> str:
    """Where a domain's decoder is, relative to the bundle."""
    return f"domains/{name}.safetensors"


def _check_shapes(
    path: Path, weights: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    if weights.keys() != shapes.keys():
        odd = sorted(weights.keys() ^ shapes.keys())
        raise BundleError(f"{path} does not fit the configuration: weights {odd[:3]} differ")
    for key, shape in shapes.items():
        if weights[key].shape != shape or weights[key].dtype not in (np.float16, np.float32):
            raise BundleError(
                f"{path}: {key} is {weights[key].dtype} {weights[key].shape}, "
                f"expected float16 {shape}"
            )
        if not np.isfinite(weights[key]).all():
            raise BundleError(f"{path}: {key} holds values that are not finite numbers")


def _replace_file(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            # mkstemp makes private files; a bundle is meant to be shared.
            os.fchmod(file.fileno(), 0o644)
            # A name must not reach the disk before what it names.
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
