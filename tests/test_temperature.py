"""A domain's own temperature: measured, kept in the bundle, and played at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.bundle import (
    Bundle,
    Domain,
    load_bundle,
    random_bundle,
    record_temperatures,
    save_bundle,
)
from model.errors import BundleError
from realtime.backends import open_backend, rest_states
from realtime.switch import DomainPlayer, Target
from tests.command_line import umt
from tests.prepared import prepared

pytest.importorskip("librosa", reason="librosa is not installed: pip install 'umt-live[train]'")

from evaluation.temperature import TEMPERATURES, Tuning, mel_distance_db, tune


def tone(hz: float, level: float = 0.3, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(16_000 * seconds)) / 16_000
    return (level * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def test_half_the_level_is_six_decibels_away_where_there_is_sound() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    assert mel_distance_db(noise, noise) == 0.0
    assert mel_distance_db(noise, 0.5 * noise) == pytest.approx(6.02, abs=0.01)


def test_what_lies_too_deep_does_not_count() -> None:
    """Hiss 80 dB below a tone is neither heard nor counted, hiss 40 dB below is."""
    hiss = np.random.default_rng(0).normal(0, 1, 16_000).astype(np.float32)
    clean = tone(440.0)
    assert mel_distance_db(clean, clean + 1e-5 * hiss) < 0.5
    assert mel_distance_db(clean, clean + 1e-2 * hiss) > 10


def test_the_best_temperature_is_that_of_the_least_distance() -> None:
    assert Tuning("a", {0.3: 5.0, 0.5: 3.0, 1.0: 4.0}).best == 0.5


def test_a_network_that_is_sure_of_silence_is_tuned_by_its_noise() -> None:
    """All codes are as likely, but for one: the hotter, the louder. Loud noise wants it hot."""
    bundle = random_bundle("tiny", ("a", "b", "c"))
    for name in bundle.domain_names:
        logits = np.zeros(256, np.float32)
        logits[128] = 8.0
        bundle.decoders[name]["head.logits.weight"][:] = 0
        bundle.decoders[name]["head.logits.bias"][:] = logits
    rng = np.random.default_rng(0)
    loud = rng.uniform(-0.5, 0.5, 8_000).astype(np.float32)
    quiet = np.zeros(8_000, np.float32)
    music = {"a": [loud], "b": [quiet], "c": [loud]}
    ticks: list[None] = []
    found = tune(open_backend("numba-float32", bundle), music, 0, lambda: ticks.append(None))
    assert [one.best for one in found] == [1.0, 0.4, 1.0]
    assert len(ticks) == 3 * len(TEMPERATURES)


def test_the_control_multiplies_a_domains_own(tiny_bundle: Bundle) -> None:
    """A domain at 0.5 under a control of 1 plays what one at 1 does under 0.5."""
    heard = []
    for own, control in ((0.5, 1.0), (1.0, 0.5), (1.0, 1.0)):
        domains = tuple(replace(domain, temperature=own) for domain in tiny_bundle.domains)
        backend = open_backend("numba-float32", replace(tiny_bundle, domains=domains))
        rest = rest_states(backend)
        player = DomainPlayer(
            backend.decoders, rest.decoders, rest.latent, backend.temperatures, seed=0, domain=1
        )
        hops = [player.play(rest.latent, Target(1), control).copy() for _ in range(4)]
        heard.append(np.concatenate(hops))
    np.testing.assert_array_equal(heard[0], heard[1])
    assert not np.array_equal(heard[0], heard[2])


@pytest.mark.parametrize("wrong", [0.0, 2.5, float("nan"), "warm", True])
def test_a_temperature_that_cannot_be_is_refused(wrong: object) -> None:
    with pytest.raises(BundleError, match="temperature of 'a' must be 0.05 to 2"):
        Domain("a", temperature=wrong)  # type: ignore[arg-type]


def test_a_bundle_keeps_temperatures_and_old_ones_have_none(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    save_bundle(tiny_bundle, tmp_path)
    record_temperatures({"b": 0.4}, tmp_path)
    assert [domain.temperature for domain in load_bundle(tmp_path).domains] == [1.0, 0.4, 1.0]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for row in manifest["domains"]:
        del row["temperature"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert {domain.temperature for domain in load_bundle(tmp_path).domains} == {1.0}


def test_the_command_saves_what_it_finds(tmp_path: Path) -> None:
    given = prepared(random_bundle("tiny", ("one", "two"), seed=0), tmp_path, seconds=30.0, takes=3)
    report, bundle = tmp_path / "tuning.json", tmp_path / "bundle"
    said = umt("eval", "temperature", *given, "--segments", 2, "--save", "--json", report)
    assert said.status == 0, said.err
    rows = json.loads(report.read_text())["domains"]
    assert [row["domain"] for row in rows] == ["one", "two"]
    for row, domain in zip(rows, load_bundle(bundle).domains, strict=True):
        distances = {float(key): value for key, value in row["distances_db"].items()}
        assert tuple(distances) == TEMPERATURES
        assert distances[row["best"]] == min(distances.values())
        assert domain.temperature == row["best"]
