"""``umt doctor``: what it finds here, and what it says of a machine that lacks something."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bridge.doctor
import bridge.doctor_pace
import realtime.pace
from bridge import doctor
from bridge.devices import ListedDevice
from bridge.doctor import Finding
from bridge.doctor_pace import pace_findings, trials
from model.bundle import Bundle, save_bundle
from realtime.chain import Chain
from realtime.pace import Pace, measure_pace
from realtime.priority import may_be_realtime, own_priority
from tests.command_line import Said, umt
from tests.jack import PERIOD, RATE, JackServer, jack_server
from tests.test_cli import NoPortAudio

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def bundle_path(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle")
    save_bundle(tiny_bundle, path)
    return path


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the bundle is measured, and torch is not looked for."""
    monkeypatch.setattr(bridge.doctor_pace, "PROFILES", ())
    monkeypatch.setattr(bridge.doctor, "gpu", list)


@pytest.fixture
def jackd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JackServer]:
    with jack_server(tmp_path) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def no_jack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", f"umt-none-{os.getpid()}")


@pytest.fixture
def no_portaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoPortAudio(), *sys.meta_path])


def have_devices(monkeypatch: pytest.MonkeyPatch, *rows: tuple[str, int, int, Any]) -> None:
    listed = [
        ListedDevice(index, name, "ALSA", inputs, outputs, 48000.0, default_for)
        for index, (name, inputs, outputs, default_for) in enumerate(rows)
    ]
    library = SimpleNamespace(get_portaudio_version=lambda: (1, "PortAudio V19, revision 1"))
    monkeypatch.setattr(bridge.doctor, "sound_library", lambda: library)
    monkeypatch.setattr(bridge.doctor, "list_devices", lambda: listed)


def run(bundle: Path, *more: object) -> Said:
    return umt("doctor", "--bundle", bundle, "--seconds", 0.1, "--osc-port", 0, *more)


def named(findings: list[Finding], name: str) -> Finding:
    (found,) = (finding for finding in findings if finding.name == name)
    return found


def rows_of(table: str) -> list[tuple[str, ...]]:
    """Verdict, name, what was found and what to do: what was broken into lines, without blanks."""
    rows: list[list[str]] = []
    for line in table.splitlines():
        cells = ["".join(cell.split()) for cell in line.split("│")[1:-1]]
        if len(cells) != 4:
            continue
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [whole + part for whole, part in zip(rows[-1], cells, strict=True)]
    return [tuple(row) for row in rows]


def test_the_json_has_what_the_table_has(bundle_path: Path, tmp_path: Path) -> None:
    said = run(bundle_path, "--json", tmp_path / "doctor.json")
    told = json.loads((tmp_path / "doctor.json").read_text())
    columns = ("verdict", "name", "found", "remedy")
    assert rows_of(said.out) == [
        tuple("".join(row[column].split()) for column in columns) for row in told["findings"]
    ]
    names = [row["name"] for row in told["findings"]]
    assert {"Python", "packages", "processor", "instructions", "PortAudio", "JACK", "MIDI"} <= {
        *names
    }
    assert names[-8:] == [
        f"{network}, {threads}"
        for network in ("profile tiny", "profile live", "profile paper", "this bundle")
        for threads in ("1 thread", "2 threads")
    ]
    assert all(row["figures"]["p50_ms"] > 0 for row in told["findings"] if "hop" in row["found"])
    fails = [row["verdict"] for row in told["findings"]].count("fail")
    assert told["can_play"] == (not fails)
    assert said.status == bool(fails)


def test_what_is_amiss_has_a_remedy(bundle_path: Path, tmp_path: Path, brief: None) -> None:
    run(bundle_path, "--json", tmp_path / "doctor.json")
    for row in json.loads((tmp_path / "doctor.json").read_text())["findings"]:
        assert row["verdict"] == "ok" or row["remedy"], row


def test_with_a_sound_card_one_can_play(
    bundle_path: Path, brief: None, no_jack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_devices(monkeypatch, ("USB", 1, 2, ("input", "output")))
    said = run(bundle_path)
    assert said.status == 0, said.err
    assert "umt live can play here" in said.out


def test_without_any_sound_device_one_cannot(
    bundle_path: Path, brief: None, no_jack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_devices(monkeypatch, ("Speaker", 0, 2, ("output",)))
    said = run(bundle_path)
    assert said.status == 1
    assert said.complaint.endswith("as things are: sound devices")
    found = named(doctor.sound(), "sound devices")
    assert found.found == "0 for input, 1 for output"


def test_a_machine_without_a_default_device_has_to_be_told(
    no_jack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_devices(monkeypatch, ("USB", 1, 2, ()))
    found = named(doctor.sound(), "sound devices")
    assert found.verdict == "warn"
    assert "--in and --out" in found.remedy


def test_without_portaudio_its_package_is_named(no_portaudio: None, no_jack: None) -> None:
    found = named(doctor.sound(), "PortAudio")
    assert found.verdict == "fail"
    assert "apt install libportaudio2" in found.remedy


def test_with_a_jack_server_one_can_play_without_portaudio(
    jackd: JackServer, bundle_path: Path, brief: None, no_portaudio: None
) -> None:
    findings = doctor.sound()
    assert named(findings, "PortAudio").verdict == "warn"
    assert "--driver jack" in named(findings, "PortAudio").remedy
    assert named(findings, "JACK").figures == {"rate": RATE, "block": PERIOD}
    said = run(bundle_path)
    assert said.status == 0, said.err


@pytest.mark.parametrize(("realtime", "verdict"), [(True, "ok"), (False, "warn")])
def test_a_jack_server_without_real_time_priority_is_warned_of(
    realtime: bool, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = SimpleNamespace(
        samplerate=RATE, blocksize=PERIOD, realtime=realtime, close=lambda: None
    )
    library = SimpleNamespace(Client=lambda *_, **__: client, JackError=OSError)
    monkeypatch.setattr(bridge.doctor, "jack_library", lambda: library)
    found = doctor.jack()
    assert found.verdict == verdict
    assert ("jackd -R" in found.remedy) == (not realtime)


def test_without_a_jack_server_there_is_still_portaudio(no_jack: None) -> None:
    pytest.importorskip("jack", reason="the Python package JACK-Client is missing")
    assert doctor.jack().verdict == "ok"
    assert doctor.jack().found == "no server is running"


def test_real_time_priority_that_is_refused_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    found = named(doctor.scheduling(), "real-time priority")
    assert (found.verdict, found.found) == ("warn", "refused: Operation not permitted")
    assert "@audio - rtprio 95" in found.remedy


def test_asking_for_priority_takes_none() -> None:
    before = own_priority()
    granted, why = may_be_realtime()
    assert granted == (why == "granted")
    assert own_priority() == before


@pytest.mark.parametrize(("root", "verdicts"), [(True, []), (False, ["warn"])])
def test_memory_that_may_not_be_locked_matters_to_all_but_root(
    root: bool, verdicts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8 << 20, 8 << 20))
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    found = [row for row in doctor.scheduling() if row.name == "locked memory"]
    assert [row.verdict for row in found] == verdicts
    assert all("8 MiB" in row.found and "memlock" in row.remedy for row in found)


@pytest.mark.parametrize(
    ("names", "verdict"),
    [(("performance", "performance"), "ok"), (("performance", "powersave"), "warn")],
)
def test_a_processor_that_saves_power_is_warned_of(
    names: tuple[str, ...], verdict: str, tmp_path: Path
) -> None:
    for number, name in enumerate(names):
        folder = tmp_path / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{name}\n")
    (found,) = doctor.governors(tmp_path)
    assert found.verdict == verdict
    assert ("cpupower" in found.remedy) == (verdict == "warn")


def test_a_clock_that_is_not_told_of_is_no_row(tmp_path: Path) -> None:
    assert doctor.governors(tmp_path) == []


@pytest.mark.parametrize(("files", "verdict"), [(None, "warn"), ((), "warn"), (("a.nbc",), "ok")])
def test_a_first_start_that_will_compile_is_warned_of(
    files: tuple[str, ...] | None, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in files or ():
        (tmp_path / name).touch()
    monkeypatch.setattr(bridge.doctor, "cache_folder", lambda: None if files is None else tmp_path)
    assert named(doctor.machine(), "kernel cache").verdict == verdict


def test_a_port_that_is_taken_is_named(
    bundle_path: Path, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_devices(monkeypatch, ("USB", 1, 2, ("input", "output")))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        said = run(bundle_path, "--osc-port", port)
        (found,) = doctor.osc(port)
    assert said.status == 1
    assert said.complaint.endswith("as things are: OSC")
    assert str(port) in found.found
    assert "--osc-port" in found.remedy
    assert doctor.osc(port)[0].verdict == "ok"


def test_a_damaged_bundle_is_told_and_the_profiles_are_measured(
    tiny_bundle: Bundle, tmp_path: Path, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.doctor_pace, "PROFILES", ("tiny",))
    save_bundle(tiny_bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "encoder.safetensors").write_bytes(b"nothing")
    said = run(tmp_path / "bundle")
    assert said.status == 1
    assert "bundle" in said.complaint
    assert "encoder.safetensors" in "".join(row[2] for row in rows_of(said.out))
    assert "profile tiny, 1 thread" in said.out
    assert "this bundle" not in said.out


def without(*missing: str) -> Any:
    version = metadata.version

    def versions(name: str) -> str:
        if name in missing:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    return versions


def test_a_look_that_fails_is_a_row_of_its_own(
    bundle_path: Path, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_devices(monkeypatch, ("USB", 1, 2, ("input", "output")))

    def broken() -> list[Finding]:
        raise OSError("libtorch_cpu.so:\n  cannot open shared object file")

    monkeypatch.setattr(bridge.doctor, "gpu", broken)
    monkeypatch.setattr(bridge.doctor, "midi", broken)
    said = run(bundle_path)
    assert said.status == 0, said.err
    failed = {row[1]: row for row in rows_of(said.out) if "cannotbelookedat" in row[2]}
    assert failed.keys() == {"GPU", "MIDI"}
    assert failed["GPU"][0] == "warn"
    assert "OSError:libtorch_cpu.so:cannotopen" in failed["GPU"][2]


def test_sound_that_cannot_be_looked_at_is_not_said_to_play(
    bundle_path: Path, brief: None, no_jack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_devices(monkeypatch)

    def broken() -> list[ListedDevice]:
        raise RuntimeError("Error querying device 0")

    monkeypatch.setattr(bridge.doctor, "list_devices", broken)
    said = run(bundle_path)
    assert said.status == 1
    assert said.complaint.endswith("would not play here as things are: sound")
    assert "Errorqueryingdevice0" in "".join(row[2] for row in rows_of(said.out))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", without("soxr", "mido"))
    findings = doctor.software()
    assert named(findings, "packages").verdict == "fail"
    assert named(findings, "packages").remedy == "pip install soxr"
    midi = named(findings, "extra: midi")
    assert (midi.verdict, midi.found) == ("ok", "absent")
    assert midi.remedy == "for umt live --midi: pip install 'umt-live[midi]'"


def test_every_extra_for_users_is_known() -> None:
    declared = metadata.metadata(doctor.DISTRIBUTION).get_all("Provides-Extra") or []
    assert {*declared} - {"dev", "test"} == {*doctor.EXTRAS}


def test_a_full_disk_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_000_000_000))
    (found,) = doctor.disk(tmp_path)
    assert found.verdict == "warn"
    assert "0.7 hours" in found.found


STEADY = Pace(hop_ms=10, p50_ms=2, p99_ms=5, core_share=0.2)
JUST = replace(STEADY, p99_ms=12)
SLOW = replace(STEADY, p50_ms=11, p99_ms=12)


@pytest.mark.parametrize(
    ("one", "two", "verdicts", "remedies"),
    [
        (STEADY, STEADY, "ok ok", ("", "")),
        (STEADY, SLOW, "ok warn", ("", "--threads 1")),
        (SLOW, STEADY, "warn ok", ("--threads 2", "")),
        (SLOW, JUST, "warn warn", ("--threads 2", "end other programs")),
        (SLOW, SLOW, "fail fail", ("faster machine", "faster machine")),
    ],
)
def test_a_bundle_plays_if_it_keeps_up_on_any_number_of_threads(
    one: Pace,
    two: Pace,
    verdicts: str,
    remedies: tuple[str, str],
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paces = iter((SLOW, SLOW, one, two))
    monkeypatch.setattr(bridge.doctor_pace, "measure_pace", lambda *_: next(paces))
    monkeypatch.setattr(bridge.doctor_pace, "PROFILES", ("tiny",))
    monkeypatch.setattr(bridge.doctor_pace, "available_cores", lambda: 2)
    findings = pace_findings(trials(tiny_bundle), 1.0, lambda _: None)
    assert [row.verdict for row in findings] == ["warn", "warn", *verdicts.split()]
    for row, remedy in zip(findings[2:], remedies, strict=True):
        assert remedy in row.remedy
        assert bool(remedy) == bool(row.remedy)


CROWDED = replace(SLOW, granted=0.4)


@pytest.mark.parametrize(
    ("pace", "remedy"),
    [
        (SLOW, "a faster machine"),
        (CROWDED, "end other programs, then measure again"),
        (replace(CROWDED, p50_ms=2), "end other programs, then measure again"),
    ],
)
def test_what_other_programs_cause_is_not_put_down_to_the_network(
    pace: Pace, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.doctor_pace, "measure_pace", lambda *_: pace)
    monkeypatch.setattr(bridge.doctor_pace, "available_cores", lambda: 2)
    monkeypatch.setattr(bridge.doctor_pace, "PROFILES", ("live",))
    for row in pace_findings(trials(None), 1.0, lambda _: None):
        assert row.remedy == remedy
        assert ("other programs take 60 % of a core" in row.found) == (pace is not SLOW)


def test_two_threads_that_hinder_one_another_are_not_measured_for_minutes(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces = iter((STEADY, SLOW, STEADY))
    monkeypatch.setattr(bridge.doctor_pace, "measure_pace", lambda *_: next(paces))
    monkeypatch.setattr(bridge.doctor_pace, "PROFILES", ("tiny",))
    monkeypatch.setattr(bridge.doctor_pace, "available_cores", lambda: 2)
    *_, one, two = pace_findings(trials(tiny_bundle), 1.0, lambda _: None)
    assert (one.verdict, two.verdict) == ("ok", "warn")
    assert "other programs take their cores" in two.found
    assert "--threads 1" in two.remedy


def test_what_cannot_be_measured_says_why(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.doctor_pace, "PROFILES", ())
    monkeypatch.setattr(bridge.doctor_pace, "available_cores", lambda: 1)
    findings = pace_findings(trials(tiny_bundle), 0.1, lambda _: None)
    assert findings[1].found == "not measured: needs 2 cores"


def clock(monkeypatch: pytest.MonkeyPatch, hop_s: float) -> None:
    """A clock by which every hop takes ``hop_s``, and a processor that worked half of it."""
    reads = iter(range(10_000))
    fake = SimpleNamespace(
        perf_counter=lambda: (next(reads) // 2) * hop_s,
        thread_time=iter((2.0, 2.3)).__next__,
        sleep=lambda _: None,
    )
    monkeypatch.setattr(realtime.pace, "time", fake)


def test_a_pace_is_that_of_its_hops(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = _trial(tiny_bundle)
    clock(monkeypatch, 0.004)
    worked = iter((1.0, 1.25))
    monkeypatch.setattr(realtime.pace, "processor_time", lambda: next(worked))
    pace = measure_pace(tiny_bundle, trial, 0.4)
    assert pace.hop_ms == 5.0
    assert pace.p50_ms == pytest.approx(pace.p99_ms) == pytest.approx(4.0)
    # A hundred hops of 5 ms took a quarter of a second of a processor.
    assert pace.core_share == pytest.approx(0.5, rel=0.03)
    # Of 0.4 s, it was given the processor for 0.3.
    assert pace.granted == pytest.approx(0.75, rel=0.03)
    assert pace.crowded


def test_a_pace_is_taken_with_the_priority_that_is_granted_and_leaves_none(
    tiny_bundle: Bundle,
) -> None:
    before = own_priority()
    assert measure_pace(tiny_bundle, _trial(tiny_bundle), 0.05).realtime == may_be_realtime()[0]
    assert own_priority() == before


def test_a_measurement_that_is_interrupted_ends_at_once(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, main, hops = _trial(tiny_bundle), threading.main_thread().ident, 0
    assert main is not None

    def process(*_: object) -> None:
        nonlocal hops
        hops += 1
        if hops == 3:
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.001)

    monkeypatch.setattr(Chain, "process", process)
    with pytest.raises(KeyboardInterrupt):
        measure_pace(tiny_bundle, trial, 4.0)
    assert 3 <= hops < 1000


def test_far_too_slow_a_network_is_not_waited_for(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = _trial(tiny_bundle)
    clock(monkeypatch, 1.0)
    hops: list[float] = []

    def keep(values: Any, _: float) -> float:
        hops[:] = values
        return 1000.0

    monkeypatch.setattr(realtime.pace, "percentile", keep)
    assert not measure_pace(tiny_bundle, trial, 0.5).keeps_up
    assert 1 <= len(hops) < 4


def _trial(bundle: Bundle) -> Any:
    from realtime.backends import open_backend

    return open_backend("numba-int8", bundle)
