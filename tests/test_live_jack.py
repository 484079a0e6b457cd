"""``umt live`` end to end on a JACK server without hardware, steered by liblo."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.bundle import Bundle, save_bundle
from tests.command_line import Said, start_umt, umt
from tests.jack import (
    PERIOD,
    RATE,
    JackServer,
    Performer,
    end,
    jack_server,
    joined_server,
    wait_until,
)
from tests.live_session import Session, distances, play_session
from tests.whispering import whispering

SECONDS = 6.0

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(
        shutil.which("oscsend") is None,
        reason="oscsend is not installed (Debian package liblo-tools)",
    ),
]


@pytest.fixture(scope="module")
def bundle_path(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle")
    save_bundle(whispering(tiny_bundle), path)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JackServer]:
    with joined_server(tmp_path_factory.mktemp("jack")) as running:
        yield running


@pytest.fixture(scope="module", params=["portaudio", "jack"])
def session(
    server: JackServer,
    bundle_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Session:
    folder = tmp_path_factory.mktemp("session")
    return play_session(server, bundle_path, "b", SECONDS, folder, request.param)


def rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))


def test_the_translation_is_heard(session: Session) -> None:
    for start in range(RATE, len(session.heard) - RATE, RATE):
        assert rms(session.heard[start : start + RATE]) > 1e-3


def test_the_switch_is_heard(session: Session) -> None:
    within, between = distances(session)
    assert between > 2 * within


def test_sigterm_ends_it_in_good_order(session: Session) -> None:
    assert session.status == 0, session.said
    assert "Traceback" not in session.said


def test_both_sides_are_recorded(session: Session) -> None:
    assert len(session.recorded_input) == len(session.recorded_output)
    assert len(session.recorded_input) >= len(session.heard) - RATE
    assert found(session.recorded_input, session.played) > 0.5
    assert found(session.recorded_output, session.heard) > 0.5


def found(recorded: np.ndarray, sought: np.ndarray) -> float:
    """The share of ``sought``, in pieces, that ``recorded`` holds bit for bit: a gap costs one."""
    size = RATE // 4
    pieces = sought[RATE : len(sought) // size * size].astype(np.float32).reshape(-1, size)
    assert pieces.any(axis=1).all()
    return sum(holds(recorded, piece) for piece in pieces) / len(pieces)


def holds(recorded: np.ndarray, piece: np.ndarray) -> bool:
    starts = np.flatnonzero(recorded[: -len(piece)] == piece[0])
    return any(np.array_equal(recorded[n : n + len(piece)], piece) for n in starts)


def test_the_session_can_be_played_again_bit_for_bit(session: Session) -> None:
    """With its switch, which a helper thread prepared, and whatever gaps this machine had."""
    assert "the same bit for bit" in umt_replay(session.takes)


def test_the_status_line_tells_the_essentials(session: Session) -> None:
    last = [line for line in session.said.splitlines() if "latency" in line][-1]
    for text in ("b | in", "out", "hop p99", "misses", "xruns", "ms"):
        assert text in last
    assert f"blocks of {PERIOD}" in session.said
    assert "real-time priority: " in session.said


def test_a_device_that_stops_is_an_error_and_the_recording_is_kept(
    bundle_path: Path, tmp_path: Path
) -> None:
    with jack_server(tmp_path) as server:
        options = ("--bundle", bundle_path, "--osc-port", 0, "--record", tmp_path / "takes")
        process = start_umt(
            "live", "--in", "system", "--out", "system", *options, env=server.environment
        )
        output = tmp_path / "takes" / "take-001-output.wav"
        wait_until(lambda: output.exists() and output.stat().st_size > 1000, 120, "a recording")
        server.process.kill()
        out, err = process.communicate(timeout=30)
    # libjack writes lines of its own; ours is the one that explains.
    ours = "\n".join(line for line in err.splitlines() if line.startswith("umt: "))
    said = Said(process.returncode, out, ours)
    assert said.status == 1
    assert "stopped asking for audio" in said.complaint
    names = sorted(path.name for path in (tmp_path / "takes").iterdir())
    assert names == [f"take-001-{part}" for part in ("input.wav", "journal.jsonl", "output.wav")]


def test_audio_is_back_after_the_server_has_died_and_come_back(
    bundle_path: Path, tmp_path: Path
) -> None:
    """And while there is none, umt can be ended."""
    phrase = np.random.default_rng(0).normal(0, 0.2, RATE).astype(np.float32)
    log = tmp_path / "umt.log"
    with jack_server(tmp_path) as server, log.open("w") as said:
        performer = Performer(server, phrase, 60)
        performer.playing.set()
        devices = ("--driver", "jack", "--in", "performer", "--out", "performer")
        options = ("--bundle", bundle_path, "--osc-port", 0, "--record", tmp_path / "takes")
        process = start_umt(
            "live", *devices, *options, env=server.environment, stdout=said, stderr=said
        )
        try:
            wait_until(lambda: performer.hears_something, 120, "the translation")
            server.process.kill()
            server.process.wait()
            performer.close()
            wait_until(lambda: "waiting for it" in log.read_text(), 5, "umt to notice")
            server.start_again()
            performer = Performer(server, phrase, 60)
            performer.playing.set()
            came_back = time.monotonic()
            wait_until(lambda: performer.hears_something, 10, "the translation to come back")
            print(f"audio is back {time.monotonic() - came_back:.2f} s after its server")
            wait_until(lambda: "the sound device is back" in log.read_text(), 5, "umt to say so")
            server.process.kill()
            server.process.wait()
            wait_until(lambda: log.read_text().count("waiting for it") == 2, 5, "umt to notice")
            process.send_signal(signal.SIGINT)
            ended = time.monotonic()
            assert process.wait(10) == 0, log.read_text()
            print(f"ended {time.monotonic() - ended:.2f} s after Ctrl-C")
        finally:
            end(process)
            performer.close()
    text = log.read_text()
    assert "Traceback" not in text
    assert "the same bit for bit" in umt_replay(tmp_path / "takes")


def test_what_was_recorded_before_a_kill_can_be_played_and_played_again(
    server: JackServer, bundle_path: Path, tmp_path: Path
) -> None:
    phrase = np.random.default_rng(1).normal(0, 0.2, RATE).astype(np.float32)
    performer, takes = Performer(server, phrase, 60), tmp_path / "takes"
    devices = ("--driver", "jack", "--in", "performer", "--out", "performer")
    options = ("--bundle", bundle_path, "--osc-port", 0, "--record", takes)
    process = start_umt("live", *devices, *options, env=server.environment)
    try:
        wait_until(lambda: performer.connected, 120, "umt to connect")
        performer.playing.set()
        wait_until(lambda: performer.position > 4 * RATE, 60, "some seconds")
        process.kill()
        killed_at = performer.position
        process.communicate(timeout=10)
    finally:
        end(process)
        performer.close()
    sides = [soundfile.read(takes / f"take-001-{side}.wav")[0] for side in ("input", "output")]
    print(f"the last {(killed_at - len(sides[1])) / RATE:+.2f} s are missing")
    for side in sides:
        # The rest is what a second is at most, on a machine that may have stood still meanwhile.
        assert len(side) > 2 * RATE
        assert np.abs(side[-RATE // 2 :]).max() > 1e-3
    assert "the same bit for bit" in umt_replay(takes)


def test_the_way_round_a_server_is_measured(server: JackServer, bundle_path: Path) -> None:
    """umt's own output into its own input: JACK makes that a period late."""
    options = ("--loopback", "--driver", "jack", "--in", "umt:output_1", "--out", "none")
    process = start_umt(
        "latency", *options, "--bundle", bundle_path, "--seconds", 2, env=server.environment
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    device = next(line for line in out.splitlines() if " device " in line)
    assert float(device.split("│")[2]) == pytest.approx(PERIOD / RATE * 1e3, abs=0.13)


def umt_replay(takes: Path) -> str:
    said = umt("replay", takes)
    assert said.status == 0, said.err
    return said.out


def test_the_server_is_among_the_devices(server: JackServer) -> None:
    process = start_umt("devices", env=server.environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    (row,) = (line for line in out.splitlines() if "JACK" in line and " system " in line)
    assert [cell.strip() for cell in row.split("│")][-2] == "48000 Hz"


THROUGH = ("--in", "system", "--out", "system")
JACK = ("--driver", "jack")


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        (("--in", "nonsense"), 1, "no input device matches 'nonsense'; choose one of .*'system'"),
        (
            (*THROUGH, "--rate", "44100"),
            1,
            "44100 Hz: .*Invalid sample rate.*try another --rate",
        ),
        ((*THROUGH, "--rate", "12345"), 2, "--rate must be one of .*48000.*, got 12345"),
        ((*THROUGH, "--channel", "9"), 1, "has 2 input channels, got --channel 9"),
        ((*THROUGH, "--record", "/proc/takes"), 1, "cannot write"),
        ((*THROUGH, "--json", "/dev/null/x"), 1, "/dev/null is not a folder"),
        ((*JACK, "--in", "nonsense"), 1, "no JACK output port or client 'nonsense'; there are 'sy"),
        ((*JACK, "--out", "nonsense"), 1, "no JACK input port or client 'nonsense'; there are 'sy"),
        ((*JACK, "--rate", "48000"), 2, "are the server's .* leave out --rate"),
        ((*JACK, "--late", "loop"), 2, "--late takes one of fade, hold, dry, got 'loop'"),
        ((*JACK, "--osc-port", "BUSY"), 1, "Address already in use; choose another with --osc-p"),
    ],
)
def test_what_cannot_be_opened_is_one_line(
    server: JackServer, bundle_path: Path, options: tuple[str, ...], status: int, reason: str
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        busy = str(other.getsockname()[1])
        arguments = ("--bundle", bundle_path, "--osc-port", 0, *options)
        arguments = tuple(busy if word == "BUSY" else word for word in arguments)
        said = what_is_said(server.environment, "live", *arguments)
    assert said.status == status, said.err
    assert re.search(reason, said.complaint), said.complaint


@pytest.mark.parametrize("words", [("live",), ("latency", "--loopback")])
def test_without_a_server_there_is_one_line(
    server: JackServer, bundle_path: Path, words: tuple[str, ...]
) -> None:
    nobody = {**server.environment, "JACK_DEFAULT_SERVER": "nobody"}
    said = what_is_said(nobody, *words, "--bundle", bundle_path, *JACK)
    assert said.status == 1
    assert "no JACK server is running; start jackd" in said.complaint


def what_is_said(environment: dict[str, str], *words: object) -> Said:
    """By a command that is to end at once."""
    process = start_umt(*words, env=environment)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        end(process)
    return Said(process.returncode, out, err)
