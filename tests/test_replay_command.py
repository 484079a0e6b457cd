"""``umt replay``: a take's files are enough to play it again, and what differs is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bridge.takes import Takes
from model.bundle import Bundle, load_bundle, random_bundle, save_bundle
from realtime.backends import open_backend
from realtime.controls import Controls, Mailbox
from realtime.engine import Engine
from tests.command_line import umt

RATE, BLOCK, BLOCKS = 44_100, 441, 200


@pytest.fixture
def bundle_path(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    save_bundle(tiny_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def takes_path(bundle_path: Path, tmp_path: Path) -> Path:
    """Two takes of one session: the second one began when it was long under way."""
    bundle = load_bundle(bundle_path)
    backend = open_backend("numba-int8", bundle)
    mailbox = Mailbox(Controls(record=True), domains=3)
    takes = Takes(tmp_path / "takes", RATE, mailbox)
    engine = Engine(bundle, backend, RATE, BLOCK, mailbox=mailbox, seed=3)
    takes.begin_with(engine, bundle, backend)
    engine.start(threaded=False)

    class Stream:
        recorder = takes.recorder

        def record(self, recorder: object) -> None:
            self.recorder = recorder  # type: ignore[assignment]

    stream, rng = Stream(), np.random.default_rng(6)
    rendered = np.empty(BLOCK, np.float32)
    for block in range(2 * BLOCKS):
        if block == BLOCKS // 4:
            mailbox.replace(domain=1, blend=0.3, blend_domain=2, mix=0.8)
        if block in (BLOCKS, BLOCKS + 5):
            mailbox.replace(record=block > BLOCKS)
            takes.follow(stream)  # type: ignore[arg-type]
        captured = rng.normal(0, 0.2, BLOCK).astype(np.float32)
        engine.exchange(captured, rendered)
        if stream.recorder is not None:
            stream.recorder.take(captured, rendered)
        while engine.step():
            pass
    takes.close()
    engine.close()
    return tmp_path / "takes"


def test_a_take_is_played_again_and_written(takes_path: Path, tmp_path: Path) -> None:
    said = umt("replay", takes_path, "--out", tmp_path / "again.wav")
    assert said.status == 0, said.err
    assert "take 1: 2.0 s, the same bit for bit" in said.out
    for again, was in zip(
        soundfile.read(tmp_path / "again.wav", dtype="float32"),
        soundfile.read(takes_path / "take-001-output.wav", dtype="float32"),
        strict=True,
    ):
        np.testing.assert_array_equal(again, was)


def test_a_take_that_differs_says_where(takes_path: Path) -> None:
    path = takes_path / "take-001-input.wav"
    audio, _ = soundfile.read(path, dtype="float32")
    audio[RATE : RATE + 400] += np.float32(0.2)
    soundfile.write(path, audio, RATE, "FLOAT")
    said = umt("replay", takes_path)
    assert said.status == 1
    assert "take 1 differs from frame 4" in said.complaint
    assert f"of {BLOCKS * BLOCK} frames" in said.complaint


def test_another_bundle_in_its_place_is_refused(takes_path: Path, bundle_path: Path) -> None:
    shutil.rmtree(bundle_path)
    said = umt("replay", takes_path)
    assert said.status == 1
    assert str(bundle_path) in said.complaint
    save_bundle(random_bundle("tiny", domains=("a", "b", "c"), seed=9), bundle_path)
    said = umt("replay", takes_path)
    assert said.status == 1
    assert "is not the bundle that was played; name that with --bundle" in said.complaint


def test_a_bundle_that_has_moved_is_named(takes_path: Path, bundle_path: Path) -> None:
    moved = bundle_path.rename(bundle_path.with_name("elsewhere"))
    assert "the same bit for bit" in umt("replay", takes_path, "--bundle", moved).out


def renumbered(takes: Path, number: int) -> None:
    """Leave a copy of take 1 under another number."""
    for path in takes.glob("take-001-*"):
        shutil.copy(path, path.with_name(path.name.replace("001", f"{number:03}")))


def test_the_first_take_that_is_there_is_played(takes_path: Path) -> None:
    renumbered(takes_path, 12)
    said = umt("replay", takes_path)
    assert "take 1: 2.0 s, the same" in said.out
    assert "playing take 1; --take chooses another: 12" in said.err
    for path in takes_path.glob("take-001-*"):
        path.unlink()
    said = umt("replay", takes_path)
    assert "take 12: 2.0 s, the same" in said.out
    assert "--take" not in said.err


def test_a_folder_without_a_take_is_refused(tmp_path: Path) -> None:
    said = umt("replay", tmp_path)
    assert said.status == 1
    assert "holds no take that began with its session" in said.complaint


@pytest.mark.parametrize("take", [2, 3])
def test_a_take_that_did_not_begin_with_its_session_is_refused(takes_path: Path, take: int) -> None:
    assert (takes_path / f"take-{take:03}-output.wav").exists() == (take == 2)
    said = umt("replay", takes_path, "--take", take)
    assert said.status == 1
    assert "only a take that began with its session can be played again" in said.complaint
