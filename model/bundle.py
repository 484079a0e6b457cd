"""Bundles: a trained network on disk, verified before a single weight is used.

A bundle is a folder: ``manifest.json``, ``encoder.safetensors`` and one
``domains/NAME.safetensors`` for each domain. The manifest holds the network's configuration, a row
for each domain and the SHA-256 of each weight file. Nothing is unpickled, and a weight file is
parsed only after its hash agrees. Weights are stored as float16 and used as float32. The manifest
may also hold, by domain, the held-out score of the float32 and of the int8 decoder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as format_safetensors

from model.config import ModelConfig, profile
from model.errors import BundleError, ConfigError, UnknownDomain
from model.weights import Weights, decoder_shapes, encoder_shapes, random_weights

FORMAT = "umt-bundle"
FORMAT_VERSION = 1
_MANIFEST = "manifest.json"
_ENCODER = "encoder.safetensors"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Domain:
    """A musical domain a bundle can play: one decoder, and where its sound comes from."""

    name: str
    description: str = ""
    loudness_db: float = -21.0
    """RMS level of its training audio in dBFS."""
    licence: str = ""
    """Licence of the scores and sounds it was trained on."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise BundleError(
                f"domain name {self.name!r} must be 1 to 64 of a-z, 0-9, '-', '_', and start "
                "with a letter or digit"
            )


@dataclass(frozen=True)
class HeldOutNll:
    """Negative log-likelihood of held-out audio under one domain's decoder, nats per sample."""

    float32: float
    """With float32 weights."""
    int8: float
    """With int8 weights, on the same audio."""
    samples: int
    """How many were scored."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value < math.inf:
                raise BundleError(f"{name} must be a finite number of at least 0, got {value!r}")
        if not isinstance(self.samples, int) or not self.samples:
            raise BundleError(f"samples must be a whole number above 0, got {self.samples!r}")

    @property
    def int8_cost(self) -> float:
        """Nats per sample that int8 weights lose; below 0 if they gain."""
        return self.int8 - self.float32


@dataclass(frozen=True)
class Bundle:
    """A verified network in memory, float32."""

    config: ModelConfig
    domains: tuple[Domain, ...]
    encoder: Weights
    decoders: Mapping[str, Weights]
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the maker says of it: training time, data, scores."""
    nll: Mapping[str, HeldOutNll] = field(default_factory=dict)
    """Held-out scores by domain, where they were measured."""
    path: Path | None = None

    @property
    def domain_names(self) -> tuple[str, ...]:
        """Names in the bundle's order: position is the index used over OSC."""
        return tuple(domain.name for domain in self.domains)

    def domain_index(self, domain: str | int) -> int:
        """Index of a domain given by name or index. Raises UnknownDomain, listing the names."""
        if isinstance(domain, str) and domain in self.domain_names:
            return self.domain_names.index(domain)
        if isinstance(domain, int) and 0 <= domain < len(self.domains):
            return domain
        raise UnknownDomain(
            f"no domain {domain!r} in this bundle; choose one of {', '.join(self.domain_names)}"
        )


def default_bundle_path() -> Path:
    """Folder of the bundle that ships with the package."""
    return Path(__file__).parent / "bundles" / "default"


def load_bundle(path: Path | None = None) -> Bundle:
    """Read and verify a bundle; the default one if no path is given.

    Raises BundleError if the folder is missing, damaged, foreign, or of a newer format.
    """
    folder = default_bundle_path() if path is None else path
    manifest = _read_manifest(folder)
    try:
        config = ModelConfig.from_dict(manifest["config"])
        domains = tuple(Domain(**row) for row in manifest["domains"])
        hashes = dict(manifest["sha256"])
    except ConfigError as error:
        raise BundleError(f"{folder / _MANIFEST}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder / _MANIFEST} is incomplete: {error!r}") from error
    names = [domain.name for domain in domains]
    if not names or len(set(names)) != len(names):
        raise BundleError(f"{folder / _MANIFEST} must list each domain once, got {names}")
    return Bundle(
        config=config,
        domains=domains,
        encoder=_read_weights(folder, _ENCODER, hashes, encoder_shapes(config)),
        decoders={
            name: _read_weights(folder, _decoder_file(name), hashes, decoder_shapes(config))
            for name in names
        },
        about=manifest.get("about", {}),
        nll=_read_nll(folder, manifest.get("nll", {}), names),
        path=folder,
    )


def save_bundle(bundle: Bundle, path: Path) -> None:
    """Write a bundle; files are replaced one by one, the manifest last.

    Raises BundleError if the folder cannot be written.
    """
    files = {_ENCODER: bundle.encoder}
    files |= {_decoder_file(name): bundle.decoders[name] for name in bundle.domain_names}
    try:
        (path / "domains").mkdir(parents=True, exist_ok=True)
        hashes = {}
        for name, weights in files.items():
            data = format_safetensors({k: v.astype(np.float16) for k, v in weights.items()})
            _replace_file(path / name, data)
            hashes[name] = hashlib.sha256(data).hexdigest()
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "config": bundle.config.to_dict(),
            "domains": [asdict(domain) for domain in bundle.domains],
            "sha256": hashes,
            "about": dict(bundle.about),
            "nll": {name: asdict(score) for name, score in bundle.nll.items()},
        }
        _write_manifest(path, manifest)
    except OSError as error:
        raise BundleError(f"cannot write bundle {path}: {error.strerror or error}") from error


def record_nll(nll: Mapping[str, HeldOutNll], path: Path | None = None) -> None:
    """Put held-out scores into the manifest of a bundle; nothing else in it changes.

    path: the bundle's folder; None is the default one's. Raises BundleError as ``load_bundle`` does
    for a manifest, and if it cannot be written.
    """
    folder = default_bundle_path() if path is None else path
    manifest = _read_manifest(folder)
    manifest["nll"] = {name: asdict(score) for name, score in nll.items()}
    try:
        _write_manifest(folder, manifest)
    except OSError as error:
        raise BundleError(f"cannot write bundle {folder}: {error.strerror or error}") from error


def random_bundle(
    config: ModelConfig | str, domains: Sequence[str] = ("a", "b"), seed: int = 0
) -> Bundle:
    """An untrained bundle in memory, for tests and benchmarks: real shapes, random weights."""
    if isinstance(config, str):
        config = profile(config)
    rng = np.random.default_rng(seed)
    encoder = random_weights(encoder_shapes(config), rng)
    decoders = {name: random_weights(decoder_shapes(config), rng) for name in domains}
    return Bundle(
        config=config,
        domains=tuple(Domain(name, "untrained") for name in domains),
        encoder=encoder,
        decoders=decoders,
        about={"training": "none: random weights"},
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"no bundle at {folder}: {_MANIFEST} is missing; give a bundle folder with --bundle"
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


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    _replace_file(folder / _MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def _read_nll(folder: Path, stored: object, names: Sequence[str]) -> dict[str, HeldOutNll]:
    remedy = "remove nll from the manifest and measure it with umt eval nll --save"
    if not isinstance(stored, dict) or not stored.keys() <= set(names):
        raise BundleError(f"{folder / _MANIFEST}: nll must name domains, got {stored!r}; {remedy}")
    scores = {}
    for name, row in stored.items():
        try:
            scores[name] = HeldOutNll(**row)
        except (BundleError, TypeError) as error:
            raise BundleError(
                f"{folder / _MANIFEST}: nll of {name} is damaged: {error}; {remedy}"
            ) from error
    return scores


def _read_weights(
    folder: Path, name: str, hashes: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
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


def _decoder_file(name: str) -> str:
    return f"domains/{name}.safetensors"


def _replace_file(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            # mkstemp makes private files; a bundle is meant to be shared.
            os.fchmod(file.fileno(), 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
