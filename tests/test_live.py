"""The parts of a live session without a sound card: callback, watchdog, devices, recorder."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import bridge.audio
import bridge.devices
import bridge.live
import bridge.recorder
import bridge.watchdog
from bridge import cli
from bridge.audio import DuplexStream, StreamCallback, StreamSettings
from bridge.commands.streams import stream_opener
from bridge.devices import Device, DeviceLost, find_device, look_again
from bridge.live import LiveSettings, _closing, _ending
from bridge.recorder import Recorder
from bridge.status import StatusLine
from bridge.steady_stream import SteadyStream
from model.bundle import Bundle, save_bundle
from model.errors import AudioDeviceError, AudioFileError, UmtError
from realtime.backends import Backend
from realtime.controls import Mailbox
from realtime.engine import Engine
from realtime.journal import Journal
from realtime.latency import LatencyItem
from realtime.priority import usable_cpus
from tests.command_line import umt
from tests.echo_backend import echo_backend, echo_bundle, echo_config
from tests.jack import wait_until

pytestmark = pytest.mark.alone

Audio = NDArray[np.float32]
RATE = 8000
WHEN = SimpleNamespace(inputBufferAdcTime=1.0, outputBufferDacTime=1.25)


class FakeEngine:
    """Answers with the negated input and counts what it is told."""

    def __init__(self) -> None:
        self.xruns = 0

    def exchange(self, captured: Audio, rendered: Audio) -> None:
        np.negative(captured, out=rendered)

    def count_xrun(self) -> None:
        self.xruns += 1


def block(frames: int, channels: int, fill: float = np.nan) -> Audio:
    return np.full((frames, channels), fill, np.float32)


@pytest.mark.parametrize("channels", [1, 2])
def test_before_the_engine_there_is_silence(channels: int) -> None:
    callback = StreamCallback()
    out = block(65, channels)
    callback(block(65, 1, 0.5), out, 65, WHEN, 0)
    assert not out.any()
    assert (callback.largest_block, callback.calls) == (65, 1)
    assert callback.device_s == 0.25


@pytest.mark.parametrize("channels", [1, 2])
def test_every_output_channel_gets_the_translation(channels: int) -> None:
    callback, engine = StreamCallback(), FakeEngine()
    callback.engine = engine  # type: ignore[assignment]
    heard, out = np.random.default_rng(0).random((63, 1), np.float32), block(63, channels)
    callback(heard, out, 63, WHEN, 0)
    np.testing.assert_array_equal(out, -np.repeat(heard, channels, axis=1))
    assert engine.xruns == 0


def test_a_flag_of_the_driver_is_counted() -> None:
    callback, engine = StreamCallback(), FakeEngine()
    callback.engine = engine  # type: ignore[assignment]
    for status in (0, 4, 0, 2):
        callback(block(64, 1, 0.0), block(64, 1), 64, WHEN, status)
    assert engine.xruns == 2


class FakeStream:
    """A PortAudio stream whose callback a thread calls until it is told to stall."""

    hangs = False
    refuses: Exception | None = None
    calls = True

    def __init__(self, callback: Any, channels: tuple[int, int], **settings: Any):
        if self.refuses is not None:
            raise self.refuses
        self.callback, self.channels, self.settings = callback, channels, settings
        self.stalled = self.ended = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.released = threading.Event()

    def start(self) -> None:
        if self.calls:
            self.thread.start()

    def run(self) -> None:
        while not self.ended:
            if not self.stalled:
                self.callback(block(64, 1, 0.1), block(64, self.channels[1]), 64, WHEN, 0)
            time.sleep(0.001)

    def abort(self) -> None:
        if self.hangs:
            self.released.wait(20)
        self.ended = True

    def close(self) -> None:
        self.ended = True


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    class PortAudioError(Exception):
        pass

    class Stream(FakeStream):
        pass

    rows = [
        ("Built-in", 2, 2),
        ("USB Audio", 1, 2),
        ("USB Audio 2", 1, 0),
        ("Speaker", 0, 6),
    ]

    def query_devices(kind: str | None = None) -> Any:
        devices = [
            {
                "index": index,
                "name": name,
                "max_input_channels": inputs,
                "max_output_channels": outputs,
                "default_samplerate": 48000.0,
                "hostapi": 0,
            }
            for index, (name, inputs, outputs) in enumerate(rows)
        ]
        return devices if kind is None else devices[0]

    fake = SimpleNamespace(
        Stream=Stream,
        PortAudioError=PortAudioError,
        _exit_handler=lambda: None,
        _initialized=1,
        query_devices=query_devices,
        query_hostapis=lambda: [{"name": "ALSA"}],
        rows=rows,
    )
    monkeypatch.setattr(bridge.devices, "sound_library", lambda: fake)
    monkeypatch.setattr(bridge.audio, "sound_library", lambda: fake)
    monkeypatch.setattr(bridge.watchdog, "_DEAD_AFTER_S", 0.3)
    return fake


def opened(outputs: int = 2) -> DuplexStream:
    devices = Device(1, "in", 1, 48000.0), Device(2, "out", outputs, 48000.0)
    return DuplexStream(StreamSettings(*devices, rate=48000, block=0))


def test_a_stream_learns_block_and_latency_before_it_plays(portaudio: SimpleNamespace) -> None:
    stream = opened(outputs=6)
    stream.settle()
    assert stream.block == 64
    assert stream.device_latency() == LatencyItem("device", 250.0, "declared")
    settings = stream._stream.settings
    assert (settings["device"], settings["samplerate"], settings["blocksize"]) == ((1, 2), 48000, 0)
    assert stream._stream.channels == (1, 2)
    assert stream.close()


@pytest.mark.parametrize("seconds", [0.0, -3.0, 89478.48])
def test_a_latency_that_makes_no_sense_is_not_shown(
    portaudio: SimpleNamespace, seconds: float
) -> None:
    stream = opened()
    stream.settle()
    stream.close()
    stream.callback.device_s = seconds
    assert stream.device_latency() is None


def watch_until_lost(stream: DuplexStream) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        stream.watch()
        time.sleep(0.005)


def test_a_device_that_stops_calling_is_lost(portaudio: SimpleNamespace) -> None:
    stream = opened()
    stream.settle()
    for _ in range(20):
        stream.watch()
        time.sleep(0.005)
    stream._stream.stalled = True
    with pytest.raises(DeviceLost, match="stopped asking for audio"):
        watch_until_lost(stream)


def test_a_process_that_slept_does_not_take_its_device_for_lost(
    portaudio: SimpleNamespace,
) -> None:
    stream = opened()
    stream.settle()
    stream._stream.stalled = True
    time.sleep(0.1)
    stream.watch()
    time.sleep(0.4)
    for _ in range(3):
        stream.watch()
    assert stream.close()


def test_a_second_ctrl_c_interrupts_what_hangs() -> None:
    with _ending() as ending:
        signal.raise_signal(signal.SIGINT)
        assert ending.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_driver_that_hangs_is_left_behind(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.watchdog, "_CLOSE_S", 0.05)
    portaudio.Stream.hangs = True
    stream = opened()
    stream.settle()
    stream._stream.stalled = True
    with pytest.raises(DeviceLost):
        watch_until_lost(stream)
    assert not stream.close()
    stream._stream.released.set()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "the sound device cannot be closed"),
        (UmtError("the engine stopped"), "the engine stopped; the sound device cannot be closed"),
        (KeyboardInterrupt(), "the sound device cannot be closed"),
        (DeviceLost("gone"), None),
    ],
)
def test_a_driver_that_hangs_at_the_end_is_lost_whatever_else_went_wrong(
    error: BaseException | None, said: str | None
) -> None:
    hanging = SimpleNamespace(close=lambda: False)
    leave = _closing(hanging)  # type: ignore[arg-type]
    if said is None:
        assert not leave(type(error), error, None)
        return
    with pytest.raises(DeviceLost, match=f"^{said}"):
        leave(error and type(error), error, None)


def lost(portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SteadyStream:
    """A stream whose device has stopped and whose driver hangs."""
    monkeypatch.setattr(bridge.watchdog, "_CLOSE_S", 0.05)
    portaudio.Stream.hangs = True
    steady = SteadyStream(stream_opener("portaudio", "0", "0", None, 0, 1))
    stream = steady.stream
    assert isinstance(stream, DuplexStream)
    stream._stream.stalled = True
    try:
        wait_until(lambda: watched(steady).lost_at is not None, 10, "the loss to be noticed")
    finally:
        portaudio.Stream.hangs = False
    return steady


def watched(steady: SteadyStream) -> SteadyStream:
    steady.watch()
    return steady


def test_a_device_of_alsa_is_opened_again_beside_what_hangs(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> None:
        raise AssertionError("PortAudio waits for the stream that hangs")

    monkeypatch.setattr(bridge.devices, "look_again", hang)
    steady = lost(portaudio, monkeypatch)
    before = steady.stream
    wait_until(lambda: watched(steady).lost_at is None, 10, "the device to come back")
    assert steady.stream is not before
    assert steady.close()


def test_a_device_that_stumbles_as_it_starts_is_opened_again(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.audio, "_PROBE_S", 0.2)
    looked: list[bool] = []

    def look_again() -> None:
        looked.append(True)
        portaudio.Stream.calls = len(looked) == 2

    monkeypatch.setattr(bridge.devices, "look_again", look_again)
    portaudio.Stream.calls = False
    steady = SteadyStream(stream_opener("portaudio", "0", "0", None, 0, 1))
    assert steady.stream.block == 64
    assert steady.close()
    portaudio.Stream.calls, looked[:] = False, [True, True]
    with pytest.raises(DeviceLost, match="asked for no audio"):
        SteadyStream(stream_opener("portaudio", "0", "0", None, 0, 1))


def reopened(
    portaudio: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    option: str | None,
    rows: list[tuple[str, int, int]],
) -> str:
    """What is played through once the list of devices has become another."""

    def look_again() -> None:
        portaudio.rows[:] = rows

    monkeypatch.setattr(bridge.devices, "look_again", look_again)
    open_stream = stream_opener("portaudio", option, option, None, 0, 1)
    assert open_stream(False).close()
    stream = open_stream(True)
    assert stream.close()
    return stream.title


CARD, BUILT_IN = ("USB Audio", 1, 2), ("Built-in", 2, 2)


@pytest.mark.parametrize("option", [None, "0"])
def test_a_lost_device_does_not_come_back_as_another(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, option: str | None
) -> None:
    """Such as the built-in microphone into the built-in loudspeakers."""
    portaudio.rows[:] = [CARD, BUILT_IN]
    with pytest.raises(AudioDeviceError, match="input device 'USB Audio' is not there"):
        reopened(portaudio, monkeypatch, option, [BUILT_IN])
    portaudio.rows[:] = [CARD, BUILT_IN]
    there = reopened(portaudio, monkeypatch, option, [BUILT_IN, CARD])
    assert there == "'USB Audio' -> 'USB Audio'"


def test_a_device_that_was_named_may_come_back_with_another_number(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    portaudio.rows[:] = [BUILT_IN, ("USB: - (hw:1,0)", 1, 2)]
    there = reopened(portaudio, monkeypatch, "usb", [BUILT_IN, ("USB: - (hw:2,0)", 1, 2)])
    assert there == "'USB: - (hw:2,0)' -> 'USB: - (hw:2,0)'"


def test_a_session_can_be_ended_while_its_driver_hangs(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lost(portaudio, monkeypatch).close()


def test_a_server_that_portaudio_has_joined_for_good_is_not_waited_for(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    portaudio.query_hostapis = lambda: [{"name": "JACK Audio Connection Kit"}]
    with pytest.raises(DeviceLost, match="stopped asking for audio"):
        lost(portaudio, monkeypatch)


def test_a_device_that_never_calls_is_lost(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.audio, "_PROBE_S", 0.2)
    portaudio.Stream.calls = False
    with pytest.raises(DeviceLost, match="asked for no audio"):
        opened().settle()


def test_whoever_wants_to_end_need_not_wait_for_a_silent_device(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.audio, "_PROBE_S", 3600.0)
    portaudio.Stream.calls = False
    stream, ending = opened(), threading.Event()
    ending.set()
    stream.settle(ending)
    assert stream.close()


def test_a_device_that_refuses_is_an_error_with_its_reason(portaudio: SimpleNamespace) -> None:
    portaudio.Stream.refuses = portaudio.PortAudioError("Invalid sample rate")
    with pytest.raises(AudioDeviceError, match="'out' at 48000 Hz: Invalid sample rate.*--rate"):
        opened()


def test_a_device_that_opens_but_does_not_start_is_closed(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    def refuse(_: FakeStream) -> None:
        raise portaudio.PortAudioError("Unanticipated host error")

    monkeypatch.setattr(portaudio.Stream, "start", refuse)
    monkeypatch.setattr(portaudio.Stream, "close", lambda _: closed.append(True))
    with pytest.raises(AudioDeviceError, match="cannot open .* Unanticipated host error"):
        opened()
    assert closed == [True]


def test_portaudio_that_did_not_start_once_is_started_again(
    portaudio: SimpleNamespace,
) -> None:
    refusals = [True, False]

    def terminate() -> None:
        if not portaudio._initialized:
            raise portaudio.PortAudioError("PortAudio not initialized")
        portaudio._initialized -= 1

    def initialize() -> None:
        if refusals.pop(0):
            raise portaudio.PortAudioError("Host error")
        portaudio._initialized += 1

    portaudio._terminate, portaudio._initialize = terminate, initialize
    with pytest.raises(AudioDeviceError, match="does not start again: Host error"):
        look_again()
    look_again()
    assert portaudio._initialized == 1


@pytest.mark.parametrize(
    ("wanted", "kind", "index"),
    [
        (None, "input", 0),
        ("1", "input", 1),
        ("USB Audio", "input", 1),
        ("audio 2", "input", 2),
        ("built", "output", 0),
        ("speak", "output", 3),
        ("usb", "output", 1),
    ],
)
def test_a_device_is_found_by_index_name_or_part_of_it(
    portaudio: SimpleNamespace, wanted: str | None, kind: Any, index: int
) -> None:
    assert find_device(wanted, kind).index == index


@pytest.mark.parametrize(
    ("wanted", "kind", "fault"),
    [
        ("usb", "input", "2 input devices match 'usb'; choose one of 1 'USB Audio', 2"),
        ("3", "input", "no input device matches '3'; choose one of 0 'Built-in', 1"),
        ("piano", "output", "no output device matches 'piano'.*3 'Speaker'"),
    ],
)
def test_a_device_that_cannot_be_told_lists_what_there_is(
    portaudio: SimpleNamespace, wanted: str, kind: Any, fault: str
) -> None:
    with pytest.raises(AudioDeviceError, match=fault):
        find_device(wanted, kind)


def test_without_a_default_device_the_others_are_listed(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = portaudio.query_devices

    def refuse_default(kind: str | None = None) -> Any:
        if kind is not None:
            raise ValueError("Not an input device: 'Speaker'")
        return query()

    monkeypatch.setattr(portaudio, "query_devices", refuse_default)
    with pytest.raises(AudioDeviceError, match="no default input.*--in: 0 'Built-in', 1 'USB"):
        find_device(None, "input")


def test_a_machine_without_devices_is_told_of_the_demo(portaudio: SimpleNamespace) -> None:
    portaudio.rows.clear()
    with pytest.raises(AudioDeviceError, match="umt demo"):
        find_device(None, "input")


def test_devices_are_listed_with_index_channels_and_defaults(
    portaudio: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (built_in,) = (line for line in lines if "Built-in" in line)
    assert re.split(r"\s*│\s*", built_in)[1:-1] == [
        "0", "Built-in", "ALSA", "2 *", "2 *", "48000 Hz",
    ]  # fmt: skip
    (speaker,) = (line for line in lines if "Speaker" in line)
    assert re.split(r"\s*│\s*", speaker)[1:-1] == ["3", "Speaker", "ALSA", "0", "6", "48000 Hz"]


def test_without_devices_or_a_default_the_list_says_so(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query = portaudio.query_devices

    def refuse_default(kind: str | None = None) -> Any:
        if kind is not None:
            raise portaudio.PortAudioError("no default")
        return query()

    monkeypatch.setattr(portaudio, "query_devices", refuse_default)
    assert cli.main(["devices"]) == 0
    assert "*" not in capsys.readouterr().out
    portaudio.rows.clear()
    assert cli.main(["devices"]) == 1
    assert capsys.readouterr().err == "umt: there is no sound device here; umt demo needs none\n"


def signals(frames: int) -> tuple[Audio, Audio]:
    rng = np.random.default_rng(0)
    return rng.random(frames, np.float32), rng.random(frames, np.float32)


def take_all(recorder: Recorder, captured: Audio, rendered: Audio, size: int = 63) -> None:
    for at in range(0, len(captured), size):
        recorder.take(captured[at : at + size], rendered[at : at + size])


def read(path: Path) -> Audio:
    audio: Audio = soundfile.read(path, dtype="float32")[0]
    return audio


def test_a_take_holds_both_sides_sample_for_sample(tmp_path: Path) -> None:
    captured, rendered = signals(3 * RATE + 17)
    recorder = Recorder(tmp_path, RATE)
    take_all(recorder, captured, rendered)
    recorder.close()
    np.testing.assert_array_equal(read(tmp_path / "take-001-input.wav"), captured)
    np.testing.assert_array_equal(read(tmp_path / "take-001-output.wav"), rendered)
    assert recorder.failure is None
    assert recorder.lost_frames == 0


def test_a_take_can_be_played_while_it_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is closed first: so it is, too, if the program is killed."""
    monkeypatch.setattr(bridge.recorder, "_POLL_S", 0.02)
    captured, rendered = signals(2 * RATE)
    recorder = Recorder(tmp_path, RATE)
    half = RATE + 5
    take_all(recorder, captured[:half], rendered[:half])
    wait_until(lambda: len(read(recorder.paths[1])) == half, 10, "half of the take")
    np.testing.assert_array_equal(read(recorder.paths[0]), captured[:half])
    take_all(recorder, captured[half:], rendered[half:])
    recorder.close()
    np.testing.assert_array_equal(read(recorder.paths[0]), captured)


def test_a_journal_lies_beside_its_take(tmp_path: Path) -> None:
    journal = Journal()
    journal.note("begin", frame=0)
    journal.note_gap(64, 32)
    recorder = Recorder(tmp_path, RATE, journal)
    take_all(recorder, *signals(100))
    recorder.close()
    rows = (tmp_path / "take-001-journal.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in rows] == [
        {"what": "begin", "frame": 0},
        {"what": "gap", "frame": 64, "missing": 32},
    ]


def test_takes_are_numbered(tmp_path: Path) -> None:
    for _ in range(2):
        recorder = Recorder(tmp_path, RATE)
        take_all(recorder, *signals(100))
        recorder.close()
    (tmp_path / "take-003-input.wav").write_bytes(b"half a take of somebody else")
    recorder = Recorder(tmp_path, RATE)
    assert recorder.paths[1] == tmp_path / "take-004-output.wav"
    recorder.close()


def test_a_take_without_sound_leaves_no_files(tmp_path: Path) -> None:
    Recorder(tmp_path, RATE).close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_slow_leaves_silence_and_keeps_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.recorder, "_RING_S", 8.0)
    monkeypatch.setattr(bridge.recorder, "_POLL_S", 60.0)
    recorder = Recorder(tmp_path, RATE)
    captured, rendered = signals(12 * RATE)
    take_all(recorder, captured, rendered)
    recorder.close()
    assert recorder.lost_frames == 8 * RATE
    kept = slice(recorder.lost_frames, None)
    for path, sent in zip(recorder.paths, (captured, rendered), strict=True):
        found = read(path)
        assert len(found) == len(sent)
        assert not found[: recorder.lost_frames].any()
        np.testing.assert_array_equal(found[kept], sent[kept])


def test_a_full_disk_ends_the_take_and_keeps_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.recorder, "_POLL_S", 60.0)
    recorder = Recorder(tmp_path, RATE)
    take_all(recorder, *signals(3 * RATE))
    writer = recorder._writers[1]
    write = writer.write

    def fill_up(audio: Audio) -> None:
        if writer.frames >= RATE:
            raise AudioFileError("cannot write: the disk is full")
        write(audio)

    monkeypatch.setattr(writer, "write", fill_up)
    recorder.close()
    assert "after 1.0 s" in str(recorder.failure)
    assert "disk is full" in str(recorder.failure)
    assert len(read(recorder.paths[1])) == RATE


def test_a_folder_that_cannot_be_written_is_told_before_the_music(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AudioFileError, match="cannot write"):
        Recorder(tmp_path / "file", RATE)


@pytest.mark.parametrize("terminal", [False, True])
def test_the_status_line_is_drawn_or_written(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bridge.status.on_terminal", lambda: terminal)
    config = echo_config()
    bundle = echo_bundle(config)
    engine = Engine(bundle, echo_backend(config), 48000, 64, mailbox=Mailbox(domains=2))
    engine.mailbox.replace(domain=1)
    ms = 20.0
    with StatusLine(bundle, engine, lambda: LatencyItem("device", ms, "declared")) as status:
        status.update()
        status.update()
        # As another device has it, once it takes the place of the first.
        ms = 10.0
    engine.close()
    shown = capsys.readouterr().err
    assert terminal or f"latency {1e3 * engine.delay_s + 20:.1f} ms" in shown
    assert "echo1 | in -120.0 dB | out -120.0 dB | hop p99 0.0 of 5 ms" in shown
    assert f"latency {1e3 * engine.delay_s + 10:.1f} ms" in shown


@pytest.mark.skipif(sys.platform != "linux", reason="pinning is Linux's")
def test_threads_priority_and_cpus_reach_the_session(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    played: list[tuple[Backend, LiveSettings]] = []
    device = Device(0, "a device", 1, 48000.0)
    monkeypatch.setattr(bridge.devices, "find_device", lambda *_: device)
    monkeypatch.setattr(bridge.live, "play", lambda _, *given: played.append(given))
    save_bundle(tiny_bundle, tmp_path)
    cpus = ",".join(map(str, usable_cpus()))
    options = "--threads", 2, "--no-priority", "--cpus", cpus
    for given in (options, ()):
        assert umt("live", "--bundle", tmp_path, *given).status == 0
    (chosen, settings), (usual, unset) = played
    assert (chosen.threads, settings.priority, settings.cpus) == (2, False, usable_cpus())
    assert (usual.threads, unset.priority, unset.cpus) == (1, True, None)
