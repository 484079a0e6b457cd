"""Bundles: a trained network on disk, verified before a single weight is used.

A bundle is a folder: ``manifest.json``, ``encoder.safetensors`` and one
``domains/NAME.safetensors`` for each domain. The manifest holds the network's configuration, a row
for each domain and the SHA-256 of each weight file. Nothing is unpickled, and a weight file is
parsed only after its hash agrees. Weights are stored as float16 and used as float32. The manifest
may also hold, by domain, the held-out score of the float32 and of the int8 decoder.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model.bundle_files import (
    ENCODER,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    decoder_file,
    read_manifest,
    read_weights,
    write_manifest,
    write_weights,
)
from model.config import ModelConfig, profile
from model.errors import BundleError, ConfigError, UnknownDomain
from model.weights import Weights, decoder_shapes, encoder_shapes, random_weights

TEMPERATURES = (0.05, 2.0)
"""The least and the highest that a domain may be sampled at."""

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
    temperature: float = 1.0
    """What the decoder is sampled at where the control of that name says 1."""

    def __post_init__(self) -> None:
        low, high = TEMPERATURES
        if type(self.temperature) not in (int, float) or not low <= self.temperature <= high:
            raise BundleError(
                f"the temperature of {self.name!r} must be {low:g} to {high:g}, "
                f"got {self.temperature!r}"
            )
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

    @property
    def fingerprint(self) -> str | None:
        """What tells a bundle on disk from others: its manifest's SHA-256, which has its files'."""
        if self.path is None:
            return None
        return hashlib.sha256((self.path / MANIFEST).read_bytes()).hexdigest()

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
    manifest = read_manifest(folder)
    try:
        config = ModelConfig.from_dict(manifest["config"])
        domains = tuple(Domain(**row) for row in manifest["domains"])
        hashes = dict(manifest["sha256"])
    except ConfigError as error:
        raise BundleError(f"{folder / MANIFEST}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder / MANIFEST} is incomplete: {error!r}") from error
    names = [domain.name for domain in domains]
    if not names or len(set(names)) != len(names):
        raise BundleError(f"{folder / MANIFEST} must list each domain once, got {names}")
    return Bundle(
        config=config,
        domains=domains,
        encoder=read_weights(folder, ENCODER, hashes, encoder_shapes(config)),
        decoders={
            name: read_weights(folder, decoder_file(name), hashes, decoder_shapes(config))
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
    files = {ENCODER: bundle.encoder}
    files |= {decoder_file(name): bundle.decoders[name] for name in bundle.domain_names}
    try:
        (path / "domains").mkdir(parents=True, exist_ok=True)
        hashes = {name: write_weights(path, name, weights) for name, weights in files.items()}
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "config": bundle.config.to_dict(),
            "domains": [asdict(domain) for domain in bundle.domains],
            "sha256": hashes,
            "about": dict(bundle.about),
            "nll": {name: asdict(score) for name, score in bundle.nll.items()},
        }
        write_manifest(path, manifest)
    except OSError as error:
        raise _cannot_write(path, error) from error


def record_nll(nll: Mapping[str, HeldOutNll], path: Path | None = None) -> None:
    """Put held-out scores into the manifest of a bundle; nothing else in it changes.

    path: the bundle's folder; None is the default one's. Raises BundleError as ``load_bundle`` does
    for a manifest, and if it cannot be written.
    """

    def put(manifest: dict[str, Any]) -> None:
        manifest["nll"] = {name: asdict(score) for name, score in nll.items()}

    _change_manifest(path, put)


def record_temperatures(temperatures: Mapping[str, float], path: Path | None = None) -> None:
    """Give domains of a bundle their temperatures; nothing else in it changes.

    path, errors: as in ``record_nll``.
    """

    def put(manifest: dict[str, Any]) -> None:
        for row in manifest["domains"]:
            row["temperature"] = temperatures.get(row["name"], row.get("temperature", 1.0))

    _change_manifest(path, put)


def _change_manifest(path: Path | None, change: Callable[[dict[str, Any]], None]) -> None:
    folder = default_bundle_path() if path is None else path
    manifest = read_manifest(folder)
    change(manifest)
    try:
        write_manifest(folder, manifest)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def add_domain(
    path: Path,
    domain: Domain,
    decoder: Weights,
    nll: HeldOutNll | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Put one more domain into a bundle, after those it has, whose files nothing touches.

    The new file comes first, the manifest last: until it is replaced the bundle is what it was.
    about: what the manifest says of how the domain was made.
    Raises BundleError as ``load_bundle`` does for a manifest, for a name that is taken, and if the
    folder cannot be written.
    """
    manifest = read_manifest(path)
    if any(row["name"] == domain.name for row in manifest["domains"]):
        raise BundleError(f"{path} has a domain {domain.name!r} already; choose another name")
    file = decoder_file(domain.name)
    try:
        manifest["sha256"][file] = write_weights(path, file, decoder)
        manifest["domains"].append(asdict(domain))
        if nll is not None:
            manifest.setdefault("nll", {})[domain.name] = asdict(nll)
        if about is not None:
            added = manifest.setdefault("about", {}).setdefault("added", {})
            added[domain.name] = dict(about)
        write_manifest(path, manifest)
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextmanager
def bundle_copy(source: Path, target: Path) -> Iterator[Path]:
    """A copy of a bundle, to change: it gets the name ``target`` when the block ends well.

    Raises BundleError if ``target`` exists or cannot be written.
    """
    part = target.with_name(f".{target.name}.part")
    names = [row["name"] for row in read_manifest(source)["domains"]]
    if os.path.lexists(target):
        raise BundleError(f"{target} exists already; choose another folder")
    try:
        # A run that was killed may have left one.
        shutil.rmtree(part, ignore_errors=True)
        (part / "domains").mkdir(parents=True)
        for file in (MANIFEST, ENCODER, *map(decoder_file, names)):
            shutil.copyfile(source / file, part / file)
        yield part
        os.rename(part, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


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


def _cannot_write(path: Path, error: OSError) -> BundleError:
    return BundleError(f"cannot write bundle {path}: {error.strerror or error}")


def _read_nll(folder: Path, stored: object, names: Sequence[str]) -> dict[str, HeldOutNll]:
    remedy = "remove nll from the manifest and measure it with umt eval nll --save"
    if not isinstance(stored, dict) or not stored.keys() <= set(names):
        raise BundleError(f"{folder / MANIFEST}: nll must name domains, got {stored!r}; {remedy}")
    scores = {}
    for name, row in stored.items():
        try:
            scores[name] = HeldOutNll(**row)
        except (BundleError, TypeError) as error:
            raise BundleError(
                f"{folder / MANIFEST}: nll of {name} is damaged: {error}; {remedy}"
            ) from error
    return scores
