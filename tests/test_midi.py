"""MIDI: maps of controllers, and what messages do to the controls."""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bridge.courtesy
from bridge.midi_map import DEFAULT_MAP, HIGHEST_CONTROLLER, TURNABLE, Knob, MidiMap, read_map
from model.errors import MidiError
from realtime.controls import SETTINGS, Controls, Mailbox
from realtime.priority import may_be_realtime, own_priority
from tests.command_line import ROOT, umt

mido = pytest.importorskip("mido", reason="needs mido, of the extra named midi")
rtmidi = pytest.importorskip("rtmidi", reason="needs python-rtmidi, of the extra named midi")

from bridge import midi  # noqa: E402
from bridge.midi import MidiControl, MidiCounts, MidiInput  # noqa: E402
from tests.jack import wait_until  # noqa: E402

DOMAINS = 6


class FakeClient:
    """rtmidi's client with messages that have come in already."""

    def __init__(self, ports: tuple[str, ...], messages: list[Any]):
        self.ports = list(ports)
        self.messages = messages
        self.closed = self.deleted = False
        self.failing = 0

    def get_ports(self) -> list[str]:
        return self.ports

    def open_port(self, number: int, name: str) -> None:
        if number >= len(self.ports):
            raise rtmidi.InvalidPortError("no such port")

    def get_message(self) -> tuple[list[int], float] | None:
        if self.failing:
            self.failing -= 1
            raise OSError("no longer there")
        return (self.messages.pop(0), 0.0) if self.messages else None

    def close_port(self) -> None:
        self.closed = True

    def delete(self) -> None:
        self.deleted = True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """Two ports of one system; messages sent to it come in at whichever is opened."""
    fake = FakeClient(("Keys 20:0", "Pads 24:0"), [])
    monkeypatch.setattr(midi, "_client", lambda *_: fake)
    monkeypatch.setattr(rtmidi, "get_compiled_api", lambda: [rtmidi.API_LINUX_ALSA])
    return fake


@pytest.fixture
def control(client: FakeClient) -> MidiControl:
    return MidiControl(MidiInput(midi.find_port("Keys")), DEFAULT_MAP, Mailbox(domains=DOMAINS))


def come(client: FakeClient, *messages: Any) -> None:
    client.messages += [
        message if isinstance(message, list) else message.bytes() for message in messages
    ]


def turned(number: int, value: int, channel: int = 0) -> Any:
    return mido.Message("control_change", channel=channel, control=number, value=value)


def program(number: int, channel: int = 0) -> Any:
    return mido.Message("program_change", channel=channel, program=number)


def after(control: MidiControl, *messages: Any) -> Controls:
    come(control.source._client, *messages)
    control.carry_out(control.source.newest(control.counts))
    return control.mailbox.latest


def test_a_program_change_chooses_the_domain_by_index(control: MidiControl) -> None:
    assert after(control, program(5)).domain == 5
    assert after(control, program(0)).domain == 0
    assert control.counts == MidiCounts(messages=2)


def test_a_program_beyond_the_last_domain_is_counted_and_changes_nothing(
    control: MidiControl,
) -> None:
    after(control, program(3))
    assert after(control, program(DOMAINS)).domain == 3
    assert after(control, program(127)).domain == 3
    assert control.counts.without_domain == 2
    assert after(control, program(4), program(99)).domain == 4


@pytest.mark.parametrize(
    ("number", "value", "name", "expected"),
    [
        (1, 0, "mix", 0.0),
        (1, 127, "mix", 1.0),
        (7, 0, "gain_out", -60.0),
        (7, 127, "gain_out", 0.0),
        (74, 0, "temperature", 0.05),
        (74, 127, "temperature", 2.0),
        (64, 63, "freeze", False),
        (64, 64, "freeze", True),
        (64, 127, "freeze", True),
    ],
)
def test_a_controller_moves_its_control_from_end_to_end(
    number: int, value: int, name: str, expected: object, control: MidiControl
) -> None:
    start = Controls(mix=0.5, gain_out=-7.0, freeze=not expected)
    control.mailbox.put(start)
    assert after(control, turned(number, value)) == start.replace(**{name: expected})


@pytest.mark.parametrize("name", TURNABLE)
def test_every_control_takes_every_position_of_a_knob(name: str) -> None:
    for knob in (Knob(3), Knob(3, SETTINGS[name].high, SETTINGS[name].low)):
        if knob.low is not None and SETTINGS[name].kind is not float:
            continue
        values = [MidiMap({name: knob}).changes(3, n, DOMAINS)[name] for n in range(128)]
        mailbox = Mailbox(domains=DOMAINS)
        for value in values:
            assert getattr(mailbox.replace(**{name: value}), name) == value
        assert values == sorted(values, reverse=knob.low is not None)
    assert len(set(values)) == {bool: 2, int: DOMAINS, float: 128}[SETTINGS[name].kind]


def test_what_comes_together_is_changed_together_and_the_newest_wins(
    control: MidiControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts: list[dict[str, Any]] = []
    replace = control.mailbox.replace
    monkeypatch.setattr(
        control.mailbox, "replace", lambda **changes: puts.append(changes) or replace(**changes)
    )
    flood = [turned(1, n % 128) for n in range(1000)]
    after(control, program(1), *flood, turned(64, 127), program(2), turned(1, 127))
    assert puts == [{"freeze": True, "domain": 2, "mix": 1.0}]
    assert control.counts.messages == 1004


def test_no_more_is_read_at_once_than_a_hop_has_time_for(control: MidiControl) -> None:
    most = midi._MOST_MESSAGES
    assert after(control, *[turned(1, 0)] * most, turned(1, 127)).mix == 0.0
    assert after(control).mix == 1.0


def test_what_is_not_for_us_is_let_pass(control: MidiControl) -> None:
    others = [
        mido.Message("note_on", note=60, velocity=64),
        mido.Message("pitchwheel", pitch=100),
        mido.Message("polytouch", note=1, value=2),
        mido.Message("sysex", data=(1, 2, 3)),
        turned(2, 64),
        turned(123, 0),
        [],
    ]
    assert after(control, *others) == Controls()


@pytest.mark.parametrize("data", [[0xB0], [0xB0, 1], [0xB0, 1, 200], [0xC0], [0xC0, 1, 1]])
def test_a_malformed_message_is_counted_and_costs_only_itself(
    data: list[int], control: MidiControl
) -> None:
    assert after(control, data, turned(74, 127)).temperature == 2.0
    assert control.counts.malformed == 1


def test_a_map_with_a_channel_hears_that_channel_alone(client: FakeClient) -> None:
    knobs = MidiMap({"mix": Knob(1)}, channel=10)
    control = MidiControl(MidiInput(midi.find_port("Keys")), knobs, Mailbox(domains=DOMAINS))
    assert after(control, turned(1, 0, channel=8), program(2, channel=8)) == Controls()
    assert after(control, turned(1, 0, channel=9), program(2, channel=9)) == Controls(
        mix=0.0, domain=2
    )


def test_the_thread_carries_out_what_comes_in_and_survives_faults(
    control: MidiControl,
    client: FakeClient,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    client.failing = 2
    with control:
        come(client, program(4))
        wait_until(lambda: control.mailbox.latest.domain == 4, 5, "MIDI")
    assert client.closed
    assert not any(thread.name == "umt-midi" for thread in threading.enumerate())
    assert capsys.readouterr().err == "MIDI from 'Keys 20:0'\n"
    assert [row.exc_text.splitlines()[-1] for row in caplog.records if row.exc_text] == [
        "OSError: no longer there"
    ] * 2


def test_it_rests_the_longer_the_more_it_had_to_do(
    control: MidiControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, work, rests = SimpleNamespace(now=7.0), iter([0.0, 0.001, 0.02]), []
    monkeypatch.setattr(bridge.courtesy, "time", SimpleNamespace(thread_time=lambda: clock.now))

    def newest(_: object) -> list[Any]:
        clock.now += next(work)
        return []

    def wait(rest_s: float) -> bool:
        rests.append(rest_s)
        return len(rests) > 3

    monkeypatch.setattr(control.source, "newest", newest)
    monkeypatch.setattr(control, "_closing", SimpleNamespace(wait=wait))
    control._run()
    assert rests == pytest.approx([0.005, 0.005, 0.005, 0.08])


@pytest.mark.skipif(sys.platform != "linux", reason="real-time policies are Linux's")
def test_it_has_the_least_priority_while_the_engine_has_some(control: MidiControl) -> None:
    if not may_be_realtime()[0] or own_priority().realtime:
        pytest.skip("this system grants no real-time priority")
    engine: Any = SimpleNamespace(realtime_granted=None)

    def level() -> int:
        return os.sched_getparam(control._thread.native_id or 0).sched_priority

    with control:
        control.follow(engine)
        for granted, expected in ((True, 1), (False, 0)):
            engine.realtime_granted = granted
            wait_until(lambda expected=expected: level() == expected, 10, "its priority")


def test_program_changes_without_a_domain_are_told_at_the_end(
    control: MidiControl, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    with control:
        come(client, program(99))
        wait_until(lambda: control.counts.without_domain == 1, 5, "MIDI")
    assert "1 MIDI program changes named no domain" in capsys.readouterr().err


def test_without_a_port_nothing_is_opened() -> None:
    assert midi.midi_settings(None, None) is None
    with midi.midi_control(None, Mailbox()) as opened:
        assert opened is None


@pytest.mark.parametrize(("wanted", "index"), [("Keys 20:0", 0), ("pads", 1), ("1", 1), ("0", 0)])
def test_a_port_is_found_by_name_part_or_index(wanted: str, index: int, client: FakeClient) -> None:
    assert midi.find_port(wanted).index == index


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ("20", "no MIDI port matches '20'; choose one of 0 'Keys 20:0', 1 'Pads 24:0'"),
        (":0", "2 MIDI ports match ':0'; choose one of 0 'Keys 20:0', 1 'Pads 24:0'"),
        ("organ", "no MIDI port matches 'organ'"),
        (None, "there are 2 MIDI ports; choose one with --midi: 0 'Keys 20:0'"),
    ],
)
def test_a_port_that_is_none_or_several_is_refused(
    wanted: str | None, complaint: str, client: FakeClient
) -> None:
    with pytest.raises(MidiError, match=complaint):
        midi.find_port(wanted)


def test_a_machine_without_ports_says_so(client: FakeClient) -> None:
    client.ports.clear()
    with pytest.raises(MidiError, match="no MIDI input port here"):
        midi.find_port("Keys")


def test_a_port_that_has_gone_since_is_named(client: FakeClient) -> None:
    port = midi.find_port("Pads")
    client.ports.pop()
    client.deleted = False
    with pytest.raises(MidiError, match="'Pads 24:0' has gone"):
        MidiInput(port)
    assert client.deleted


def test_a_port_that_refuses_is_named_and_its_client_closed(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = midi.find_port("Pads")
    client.deleted = False

    def refuse(*_: object) -> None:
        raise rtmidi.SystemError("busy")

    with monkeypatch.context() as patch:
        patch.setattr(client, "open_port", refuse)
        with pytest.raises(MidiError, match="cannot open the MIDI port 'Pads 24:0': busy"):
            MidiInput(port)
    assert client.deleted
    client.deleted = False
    MidiInput(port)
    assert not client.deleted


def test_a_system_that_does_not_run_has_no_ports_and_says_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        os.write(2, b"ALSA lib: no such file\n")
        raise rtmidi.SystemError("no sequencer")

    monkeypatch.setattr(rtmidi, "MidiIn", refuse)
    assert midi.list_ports() == []
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_ports_are_listed_with_the_devices(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bridge.devices import ListedDevice

    row = ListedDevice(0, "Built-in", "ALSA", 2, 2, 48000.0, ("input",))
    monkeypatch.setattr("bridge.devices.list_devices", lambda: [row])
    said = umt("devices")
    assert said.status == 0, said.err
    (line,) = (line for line in said.out.splitlines() if "Pads 24:0" in line)
    assert [cell.strip() for cell in line.split("│")][1:-1] == ["1", "Pads 24:0", "ALSA"]
    monkeypatch.setattr("bridge.commands.devices.find_spec", lambda _: None)
    assert "Pads" not in umt("devices").out


# Maps.


def test_a_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    for kept in (
        DEFAULT_MAP,
        MidiMap({}),
        MidiMap({"domain": Knob(HIGHEST_CONTROLLER), "mix": Knob(0, 1.0, 0.25)}, channel=16),
    ):
        path.write_text(kept.to_toml(), encoding="utf-8")
        assert read_map(path) == kept


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[mix\n", "is not TOML"),
        ("\udcff", "is not TOML"),
        ("[volume]\ncc = 1", "no knob turns 'volume', but domain, mix"),
        ("[seed]\ncc = 1", "no knob turns 'seed'"),
        ("mix = 1", r"mix must be a table such as \[mix\] with cc = 1, got 1"),
        ("[mix]\nlow = 0", "mix needs cc, the number of a controller"),
        ("[mix]\ncc = 120", "cc of mix must be a whole number from 0 to 119, got 120"),
        ("[mix]\ncc = '1'", "cc of mix must be a whole number from 0 to 119, got '1'"),
        ("[mix]\ncc = true", "cc of mix must be a whole number from 0 to 119, got True"),
        ("[mix]\ncc = 1\nlow = -0.5", "low of mix must be 0 to 1, got -0.5"),
        ("[gain_out]\ncc = 7\nhigh = 30", "high of gain_out must be -60 to 24 dB, got 30"),
        ("[gain_out]\ncc = 7\nhigh = nan", "high of gain_out must be a number, got nan"),
        ("[freeze]\ncc = 64\nlow = 0", "freeze has no low, got 0"),
        ("[domain]\ncc = 64\nhigh = 3", "domain has no high, got 3"),
        ("[mix]\ncc = 1\ncurve = 2", "mix has cc, low and high, got 'curve'"),
        ("channel = 0", "channel must be a whole number from 1 to 16, got 0"),
        ("channel = 'all'", "channel must be a whole number from 1 to 16, got 'all'"),
    ],
)
def test_a_bad_map_is_one_line_with_the_value(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(MidiError, match=complaint) as caught:
        read_map(path)
    assert "map.toml" in str(caught.value)


def test_live_refuses_a_bad_map_in_one_line(client: FakeClient, tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text("[mix]\ncc = 400\n")
    said = umt("live", "--midi", "Keys", "--midi-map", path)
    assert said.status == 1
    assert said.complaint.endswith(
        "map.toml: cc of mix must be a whole number from 0 to 119, got 400"
    )
    said = umt("live", "--midi-map", path)
    assert said.status == 2
    assert "--midi-map needs --midi" in said.complaint
    said = umt("live", "--midi", "Keys", "--midi-map", tmp_path / "none.toml")
    assert said.status == 2
    assert "none.toml" in said.complaint


def test_live_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtmidi", None)
    said = umt("live", "--midi", "Keys")
    assert said.status == 1
    assert "umt-live[midi]" in said.complaint


# Learning.


def test_learning_a_new_file_begins_with_the_default(client: FakeClient, tmp_path: Path) -> None:
    come(client, program(3), mido.Message("note_on"), turned(0, 1), turned(32, 1), turned(123, 0))
    come(client, turned(21, 5), turned(22, 5))
    said = umt("midi", "learn", "mix", "--midi", "pads", "--midi-map", tmp_path / "new" / "m.toml")
    assert said.status == 0, said.err
    assert "move what mix is to be" in said.err
    assert said.out.startswith("mix: controller 21, written to ")
    learnt = read_map(tmp_path / "new" / "m.toml")
    assert learnt == MidiMap({**DEFAULT_MAP.knobs, "mix": Knob(21)})
    assert client.closed


def test_learning_takes_the_controller_from_what_had_it_and_keeps_the_range(
    client: FakeClient, tmp_path: Path
) -> None:
    path = tmp_path / "map.toml"
    path.write_text("channel = 2\n[mix]\ncc = 5\n[gain_in]\ncc = 6\nlow = -20\nhigh = 20\n")
    come(client, turned(4, 1, channel=0), turned(5, 1, channel=1))
    said = umt("midi", "learn", "gain_in", "--midi", "0", "--midi-map", path)
    assert said.status == 0, said.err
    assert "mix: no controller any more" in said.out
    assert read_map(path) == MidiMap({"gain_in": Knob(5, -20.0, 20.0)}, channel=2)


def test_an_interrupted_learner_changes_nothing(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    # Here alone: threads that other tests have left sleep, too.
    monkeypatch.setattr(midi, "time", SimpleNamespace(sleep=interrupt))
    path = tmp_path / "map.toml"
    path.write_text("[mix]\ncc = 5\n")
    said = umt("midi", "learn", "freeze", "--midi", "0", "--midi-map", path)
    assert said.status == 130
    assert path.read_text() == "[mix]\ncc = 5\n"
    assert list(tmp_path.iterdir()) == [path]
    assert client.closed


@pytest.mark.parametrize(
    ("control", "file", "status", "complaint"),
    [
        ("volume", "m.toml", 2, "no knob turns 'volume', but domain, mix"),
        ("mix", "file/m.toml", 1, "file is not a folder"),
        ("mix", "bad.toml", 1, "no knob turns 'x'"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(
    control: str, file: str, status: int, complaint: str, client: FakeClient, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "bad.toml").write_text("[x]\ncc = 1\n")
    said = umt("midi", "learn", control, "--midi", "0", "--midi-map", tmp_path / file)
    assert said.status == status
    assert complaint in said.complaint


def test_the_map_in_the_documentation_can_be_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "midi.md").read_text(encoding="utf-8")
    [text] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "map.toml").write_text(text)
    expected = MidiMap({"mix": Knob(20), "gain_out": Knob(7, -40, 6)}, channel=10)
    assert read_map(tmp_path / "map.toml") == expected
