"""Takes begin and end with the ``record`` control, which never says that a lost one goes on."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

import bridge.recorder
import bridge.soundfiles
from bridge.recorder import Recorder
from bridge.takes import Takes, read_take
from model.bundle import Bundle
from model.errors import AudioFileError, UmtError
from realtime.backends import open_backend
from realtime.controls import Controls, Mailbox
from realtime.engine import Engine
from realtime.journal import Journal
from tests.jack import wait_until

RATE = 8000


class Stream:
    """Keeps the recorder, which the test feeds."""

    recorder: Recorder | None = None

    def record(self, recorder: Recorder | None) -> None:
        self.recorder = recorder

    def hear(self, seconds: float) -> None:
        assert self.recorder is not None
        block = np.full(round(seconds * RATE), 0.25, np.float32)
        self.recorder.take(block, -block)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.recorder, "_POLL_S", 0.01)


def begun(folder: Path, record: bool = True) -> tuple[Takes, Any, Mailbox]:
    mailbox = Mailbox(Controls(record=record))
    return Takes(folder, RATE, mailbox), Stream(), mailbox


def test_takes_follow_the_control(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    takes, stream, mailbox = begun(tmp_path, record=False)
    takes.follow(stream)
    assert stream.recorder is None
    for _ in range(2):
        mailbox.replace(record=True)
        takes.follow(stream)
        stream.hear(0.5)
        mailbox.replace(record=False)
        takes.follow(stream)
        assert stream.recorder is None
    takes.close()
    assert [soundfile.info(path).frames for path in sorted(tmp_path.iterdir())] == [RATE // 2] * 4
    assert capsys.readouterr().err.count("recorded 0.5 s") == 2
    assert takes.failure is None


def test_a_take_that_is_lost_turns_the_control_off_and_another_may_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    takes, stream, mailbox = begun(tmp_path, record=False)
    for nth in (1, 2):
        mailbox.replace(record=True)
        takes.follow(stream)
        recorder = stream.recorder
        stream.hear(0.5)
        wait_until(lambda recorder=recorder: recorder.seconds == 0.5, 10, "the first half second")
        with monkeypatch.context() as patch:
            patch.setattr(bridge.soundfiles, "_MOST_BYTES", 4 * RATE)
            stream.hear(0.6)
            wait_until(lambda recorder=recorder: recorder.failure is not None, 10, "the end")
        takes.follow(stream)
        assert not mailbox.latest.record
        assert stream.recorder is None
        said = capsys.readouterr().err
        assert said.count("warning: recording ended after 0.5 s") == 1
        assert "as long as WAV allows, 4 GB" in said
        assert soundfile.info(tmp_path / f"take-{nth:03}-output.wav").frames == RATE // 2
    takes.close()
    assert isinstance(takes.failure, AudioFileError)


def test_a_folder_that_refuses_turns_the_control_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "takes").write_text("in the way")
    takes, stream, mailbox = begun(tmp_path / "takes", record=False)
    mailbox.replace(record=True)
    takes.follow(stream)
    assert not mailbox.latest.record
    assert stream.recorder is None
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("nth", [1, 2])
def test_a_take_that_cannot_begin_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    made: list[Any] = []
    sound_file = soundfile.SoundFile

    def fill_up(*given: Any, **how: Any) -> Any:
        made.append(sound_file(*given, **how))
        if len(made) == nth:
            made[-1].close()
            raise soundfile.LibsndfileError(2)
        return made[-1]

    monkeypatch.setattr(bridge.soundfiles.soundfile, "SoundFile", fill_up)
    with pytest.raises(AudioFileError, match="the disk is full"):
        Recorder(tmp_path, RATE)
    assert not list(tmp_path.iterdir())


def test_a_take_is_not_begun_over_what_another_program_has_just_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.recorder, "_next_take", lambda folder: folder / "take-001")
    (tmp_path / "take-001-output.wav").write_text("another's")
    with pytest.raises(AudioFileError, match="File exists"):
        Recorder(tmp_path, RATE)
    assert [one.name for one in tmp_path.iterdir()] == ["take-001-output.wav"]
    assert (tmp_path / "take-001-output.wav").read_text() == "another's"


def test_a_recorder_that_ends_by_a_fault_of_its_own_turns_the_control_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes, stream, mailbox = begun(tmp_path)
    assert takes.recorder is not None
    stream.record(takes.recorder)

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(takes.recorder._writers[0], "write", fail)
    stream.hear(0.5)
    wait_until(lambda: takes.recorder.failure is not None, 10, "the failure")
    takes.follow(stream)
    assert not mailbox.latest.record
    takes.close()
    assert "recording ended after 0.0 s: MemoryError('no room')" in str(takes.failure)
    # With it, --debug shows where.
    assert takes.failure is not None
    assert isinstance(takes.failure.__cause__, MemoryError)


def test_a_take_without_sound_that_cannot_be_removed_does_not_end_the_music(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes, stream, mailbox = begun(tmp_path)
    mailbox.replace(record=False)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        takes.follow(stream)
    assert takes.recorder is None


def test_what_a_slow_disk_lost_is_told_and_not_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(bridge.recorder, "_RING_S", 1.0)
    monkeypatch.setattr(bridge.recorder, "_POLL_S", 60.0)
    takes, stream, _ = begun(tmp_path)
    backend = open_backend("numba-int8", tiny_bundle)
    with Engine(tiny_bundle, backend, 48_000, 64) as engine:
        takes.begin_with(engine, tiny_bundle, backend)
        stream.record(takes.recorder)
        for _ in range(8):
            stream.hear(0.25)
        takes.close()
        assert engine.journal is None
    assert "the disk was too slow: the take is silent for" in capsys.readouterr().err
    with pytest.raises(UmtError, match="take-001 is damaged: the disk was too slow for it"):
        read_take(tmp_path, 1)


def test_gaps_that_nobody_read_in_time_are_not_passed_over() -> None:
    journal = Journal()
    for frame in range(5000):
        journal.note_gap(64 * frame, 64)
    rows = list(journal.rows())
    assert rows[0] == {"what": "lost", "gaps": 5000 - 4096}
    assert [row["frame"] for row in rows[1:]] == [64 * frame for frame in range(904, 5000)]
    assert list(journal.rows()) == []


def test_a_take_cut_off_in_a_row_is_read_up_to_it(tmp_path: Path) -> None:
    """As a program that was killed leaves it."""
    begin = {
        "what": "begin", "rate": RATE, "headroom_frames": 64, "seed": 0, "controls": {},
        "late": "fade", "frame": 0,
    }  # fmt: skip
    journal = "\n".join(map(json.dumps, ({"what": "session", "umt": "0"}, begin)))
    (tmp_path / "take-001-journal.jsonl").write_text(f'{journal}\n{{"what": "gap", "fra')
    for side, seconds in (("input", 2), ("output", 1)):
        soundfile.write(tmp_path / f"take-001-{side}.wav", np.zeros(seconds * RATE), RATE, "FLOAT")
    take = read_take(tmp_path, 1)
    assert take.facts["umt"] == "0"
    assert take.session.gaps == []
    assert len(take.captured) == len(take.rendered) == RATE


@pytest.mark.parametrize(
    ("missing", "said"),
    [("journal.jsonl", "only a take that began with its session"), ("output.wav", "is damaged")],
)
def test_a_take_that_is_not_whole_is_one_line(tmp_path: Path, missing: str, said: str) -> None:
    test_a_take_cut_off_in_a_row_is_read_up_to_it(tmp_path)
    (tmp_path / f"take-001-{missing}").unlink()
    with pytest.raises(UmtError, match=said):
        read_take(tmp_path, 1)


def test_a_session_without_a_folder_records_nothing(tmp_path: Path) -> None:
    mailbox, stream = Mailbox(Controls(record=True)), SimpleNamespace()
    takes = Takes(None, RATE, mailbox)
    takes.follow(stream)  # type: ignore[arg-type]
    takes.close()
    assert takes.recorder is None
