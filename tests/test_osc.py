"""OSC: every address to the letter, and nothing a network can send stops it."""

from __future__ import annotations

import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.udp_client import SimpleUDPClient

from bridge.osc import OscServer, OscSettings
from bridge.oscpackets import MalformedPacket, Message, messages_of, packet_of
from model.bundle import Bundle
from model.errors import ConfigError, UmtError
from realtime.controls import SETTINGS_BY_PATH, Controls, Mailbox
from realtime.meter import Meter
from realtime.priority import may_be_realtime
from tests.osc_client import WAIT_S, Sender, packet
from tests.osc_flood import GOOD, MALFORMED, bundle_of, nested, typed

pytestmark = pytest.mark.alone


def drain(waiting: socket.socket) -> None:
    """Throw away what has come in."""
    while select.select([waiting], [], [], 0)[0]:
        waiting.recv(65536)


@pytest.mark.parametrize("domain", ["b", 1, 1.0])
def test_the_domain_is_set_by_name_or_index(sender: Sender, mailbox: Mailbox, domain: Any) -> None:
    sender.send(packet("/umt/domain", domain))
    sender.sync()
    assert mailbox.latest.domain == 1


@pytest.mark.parametrize(
    ("address", "value", "expected"),
    [
        ("/umt/mix", 0.25, Controls(mix=0.25)),
        ("/umt/mix", 1, Controls(mix=1.0)),
        ("/umt/mix", 0, Controls(mix=0.0)),
        ("/umt/temperature", 2, Controls(temperature=2.0)),
        ("/umt/gain/in", -6, Controls(gain_in=-6.0)),
        ("/umt/gain/out", 12.5, Controls(gain_out=12.5)),
        ("/umt/bypass", 1, Controls(bypass=True)),
        ("/umt/freeze", 1.0, Controls(freeze=True)),
        ("/umt/freeze", True, Controls(freeze=True)),
        ("/umt/bypass", False, Controls()),
        ("/umt/latent/smooth", 0.25, Controls(latent_smooth=0.25)),
        ("/umt/latent/noise", 1, Controls(latent_noise=1.0)),
        ("/umt/blend", 0.5, Controls(blend=0.5)),
        ("/umt/blend/domain", "c", Controls(blend_domain=2)),
        ("/umt/blend/domain", 1.0, Controls(blend_domain=1)),
        ("/umt/seed", 7.0, Controls(seed=7, seedings=1)),
        ("/umt/panic", 1, Controls(panics=1)),
        ("/umt/panic", 0, Controls()),
    ],
)
def test_a_control_takes_floats_and_integers(
    sender: Sender, mailbox: Mailbox, address: str, value: float, expected: Controls
) -> None:
    sender.send(packet(address, value))
    sender.sync()
    assert mailbox.latest == expected


def test_doubles_and_long_integers_are_numbers(sender: Sender, mailbox: Mailbox) -> None:
    sender.send(typed("/umt/mix", ",d", struct.pack(">d", 0.5)))
    sender.send(typed("/umt/domain", ",h", struct.pack(">q", 2)))
    sender.sync()
    assert mailbox.latest == Controls(mix=0.5, domain=2)


def test_every_control_has_an_address_and_a_state(sender: Sender) -> None:
    sender.send(packet("/umt/get"))
    states = [sender.heard() for _ in SETTINGS_BY_PATH]
    assert states == [
        ("/umt/state", "domain", "a"),
        ("/umt/state", "mix", 1.0),
        ("/umt/state", "temperature", 1.0),
        ("/umt/state", "gain/in", 0.0),
        ("/umt/state", "gain/out", 0.0),
        ("/umt/state", "bypass", 0),
        ("/umt/state", "freeze", 0),
        ("/umt/state", "latent/smooth", 0.0),
        ("/umt/state", "latent/noise", 0.0),
        ("/umt/state", "blend", 0.0),
        ("/umt/state", "blend/domain", "a"),
        ("/umt/state", "seed", 0),
        ("/umt/state", "record", 0),
    ]
    sender.sync()


def test_a_blend_takes_its_domain_and_share_at_once(sender: Sender, mailbox: Mailbox) -> None:
    sender.send(packet("/umt/blend", "b", 0.25))
    sender.sync()
    assert mailbox.latest == Controls(blend_domain=1, blend=0.25)
    sender.send(packet("/umt/blend", 2.0, 1))
    sender.sync()
    assert mailbox.latest == Controls(blend_domain=2, blend=1.0)
    for wrong, reason in (
        (("b", 1.5), "blend must be 0 to 1, got 1.5"),
        (("x", 0.5), "no domain 'x' in this bundle; choose one of a, b, c"),
        ((), "takes a domain and its share, or a share, got 0 arguments"),
        (("a", "b", 0.5), "takes a domain and its share, or a share, got 3 arguments"),
    ):
        sender.send(packet("/umt/blend", *wrong))
        assert sender.heard() == ("/umt/error", "/umt/blend", reason)
    assert mailbox.latest == Controls(blend_domain=2, blend=1.0)


def test_panic_needs_no_argument(sender: Sender, mailbox: Mailbox) -> None:
    sender.send(packet("/umt/panic"))
    sender.sync()
    assert mailbox.latest.panics == 1


def test_a_large_seed_is_told_as_it_is(sender: Sender, mailbox: Mailbox) -> None:
    mailbox.replace(seed=2**63 - 1)
    sender.send(packet("/umt/get", "seed"))
    assert sender.heard() == ("/umt/state", "seed", 2**63 - 1)


def test_recording_is_for_those_who_were_given_a_folder(
    sender: Sender, server: OscServer, mailbox: Mailbox
) -> None:
    sender.send(packet("/umt/record", 1))
    address, about, reason = sender.heard()
    assert (address, about) == ("/umt/error", "/umt/record")
    assert "start with umt live --record DIR" in reason
    server.addresses.may_record = True
    sender.send(packet("/umt/record", 1))
    sender.sync()
    assert mailbox.latest.record


@pytest.mark.parametrize(
    ("peer", "heeded"),
    [("192.168.1.20", True), ("192.168.1.21", False), ("10.9.9.9", True), ("127.0.0.1", True)],
)
def test_others_are_heeded_if_they_are_allowed(
    tiny_bundle: Bundle, mailbox: Mailbox, peer: str, heeded: bool
) -> None:
    settings = OscSettings(port=0, allow=("192.168.1.20", "10.0.0.0/8"))
    idle = OscServer(tiny_bundle, mailbox, settings)
    datagrams = [(packet("/umt/mix", 0.5), (peer, 9001))]
    idle._socket.close()
    idle._socket = ReplayedSocket(datagrams)  # type: ignore[assignment]
    assert idle._drained() == (datagrams if heeded else [])
    assert idle.counts.strangers == (not heeded)


class ReplayedSocket:
    """Gives what it was given."""

    def __init__(self, datagrams: list[Any]):
        self.left = list(datagrams)

    def recvfrom(self, _: int) -> Any:
        if not self.left:
            raise BlockingIOError
        return self.left.pop(0)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"allow": ("studio",)}, "--osc-allow takes an IPv4 address or network.*got 'studio'"),
        ({"host": "localhost"}, "--osc-host takes an IPv4 address.*got 'localhost'"),
    ],
)
def test_addresses_that_are_none_are_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        OscSettings(**wrong)


def test_a_port_that_others_reach_is_open_unless_it_is_said_who_may() -> None:
    assert not OscSettings().is_open
    assert OscSettings(host="0.0.0.0").is_open
    assert not OscSettings(host="0.0.0.0", allow=("10.0.0.1",)).is_open


def test_get_answers_what_it_is_asked_for(sender: Sender) -> None:
    sender.send(packet("/umt/domain", "c"))
    sender.send(packet("/umt/get", "/umt/gain/in", "domain"))
    assert sender.heard() == ("/umt/state", "gain/in", 0.0)
    assert sender.heard() == ("/umt/state", "domain", "c")
    assert sender.ask("/umt/get", *["mix"] * 500) == ("/umt/state", "mix", 1.0)
    sender.sync()
    address, asked, reason = sender.ask("/umt/get", "nonsense")
    assert (address, asked) == ("/umt/error", "/umt/get")
    assert "nonsense" in reason
    assert "temperature" in reason
    sender.send(packet("/umt/get", "mix", "nonsense", "domain"))
    assert sender.heard() == ("/umt/state", "mix", 1.0)
    assert sender.heard() == ("/umt/state", "domain", "c")
    assert sender.heard() == ("/umt/error", "/umt/get", reason)


def test_ping_gives_the_same_arguments_back_byte_by_byte(sender: Sender) -> None:
    payload = b",ifsbTFNIhdtcm[ii]\0\0" + bytes(range(4)) + struct.pack(">f", 0.1)
    payload += b"text\0\0\0\0" + struct.pack(">i", 3) + b"abc\0" + bytes(8 + 8 + 8 + 4 + 4 + 8)
    sender.send(b"/umt/ping\0\0\0" + payload)
    assert sender.socket.recv(4096) == b"/umt/pong\0\0\0" + payload


def test_a_ping_without_type_tags_is_answered_with_some(sender: Sender) -> None:
    sender.send(b"/umt/ping\0\0\0")
    assert sender.socket.recv(4096) == b"/umt/pong\0\0\0,\0\0\0"


@pytest.mark.parametrize(
    ("address", "arguments", "reason"),
    [
        ("/umt/mix", (1.5,), "0 to 1"),
        ("/umt/mix", (-0.1,), "0 to 1"),
        ("/umt/mix", (float("nan"),), "nan"),
        ("/umt/mix", (float("inf"),), "inf"),
        ("/umt/mix", ("loud",), "loud"),
        ("/umt/mix", (True,), "True"),
        ("/umt/mix", (), "one argument"),
        ("/umt/mix", (0.5, 0.5), "one argument"),
        ("/umt/temperature", (0.0,), "0.05"),
        ("/umt/domain", ("nope",), "a, b, c"),
        ("/umt/domain", (3,), "a, b, c"),
        ("/umt/domain", (-1,), "-1"),
        ("/umt/domain", (1.5,), "1.5"),
        ("/umt/domain", (float("nan"),), "nan"),
        ("/umt/domain", (b"blob",), "blob"),
        ("/umt/gain/in", (99,), "gain/in must be -60 to 24 dB, got 99"),
        ("/umt/panic", (2,), "takes nothing, 1 or 0, got 2"),
        ("/umt/panic", ("now",), "got 'now'"),
        ("/umt/panic", (1, 1), "got 1, 1"),
        ("/umt/nothing", (1,), "unknown"),
        ("/", (), "unknown"),
    ],
)
def test_what_cannot_be_done_is_answered_with_the_reason(
    sender: Sender, mailbox: Mailbox, address: str, arguments: tuple[Any, ...], reason: str
) -> None:
    answer = sender.ask(address, *arguments)
    assert answer[:2] == ("/umt/error", address)
    assert reason in answer[2]
    assert mailbox.latest == Controls()


def test_a_message_without_type_tags_has_no_arguments(sender: Sender) -> None:
    sender.send(b"/umt/mix\0\0\0\0")
    assert sender.heard()[:2] == ("/umt/error", "/umt/mix")


def test_answers_are_never_answered(server: OscServer, sender: Sender) -> None:
    for address in ("/umt/error", "/umt/state", "/umt/pong"):
        sender.send(packet(address, "/umt/mix", "unknown address"))
    sender.sync()
    assert server.addresses.refused == 0


def test_answers_go_to_whoever_asked(server: OscServer) -> None:
    senders = [Sender(server) for _ in range(3)]
    for number, sender in enumerate(senders):
        sender.send(packet("/umt/ping", number))
    for number, sender in enumerate(senders):
        assert sender.heard() == ("/umt/pong", number)
        sender.socket.close()


@pytest.mark.parametrize("time_tag", [0, 1, 2**32, 2**64 - 1])
def test_bundles_apply_at_once_whatever_their_time(
    sender: Sender, mailbox: Mailbox, time_tag: int
) -> None:
    inner = bundle_of(packet("/umt/mix", 0.75), time_tag=1)
    outer = bundle_of(packet("/umt/mix", 0.5), packet("/umt/domain", "b"), inner, time_tag=time_tag)
    sender.send(outer)
    sender.sync()
    assert mailbox.latest == Controls(mix=0.75, domain=1)


def test_a_bundle_of_changes_is_one_change(
    sender: Sender, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[dict[str, object]] = []
    replace = mailbox.replace

    def watched(**new: object) -> Controls:
        changes.append(new)
        return replace(**new)

    monkeypatch.setattr(mailbox, "replace", watched)
    refused = packet("/umt/mix", 9)
    others = (packet("/umt/mix", 0.5), packet("/umt/domain", 2), packet("/umt/panic"))
    sender.send(bundle_of(refused, *others))
    assert sender.heard()[:2] == ("/umt/error", "/umt/mix")
    sender.sync()
    assert changes == [{"mix": 0.5, "domain": 2, "panic": True}]


def test_get_in_a_bundle_sees_what_stands_before_it(sender: Sender) -> None:
    sender.send(bundle_of(packet("/umt/mix", 0.5), packet("/umt/get", "mix")))
    assert sender.heard() == ("/umt/state", "mix", 0.5)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_packet_is_counted_and_dropped(
    server: OscServer, sender: Sender, mailbox: Mailbox, name: str
) -> None:
    sender.send(MALFORMED[name])
    sender.sync()
    assert server.counts.malformed == 1
    assert mailbox.latest == Controls()
    sender.send(GOOD)
    sender.sync()
    assert mailbox.latest == Controls(mix=0.5)


def test_a_bundle_may_hold_many_messages(sender: Sender, mailbox: Mailbox) -> None:
    sender.send(bundle_of(*[packet("/umt/mix", number / 64) for number in range(64)]))
    sender.sync()
    assert mailbox.latest.mix == 63 / 64


def test_bundles_may_nest_a_little(sender: Sender, mailbox: Mailbox) -> None:
    sender.send(nested(8))
    sender.sync()
    assert mailbox.latest.mix == 0.5


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(noise: bytes) -> None:
    for prefix in (b"", b"/umt/mix\0\0\0\0,", b"#bundle\0" + bytes(8)):
        try:
            messages_of(prefix + noise)
        except MalformedPacket:
            continue


@settings(deadline=None)
@given(st.data())
def test_a_damaged_packet_is_read_or_refused(data: st.DataObject) -> None:
    sound = bytearray(bundle_of(packet("/umt/domain", "b", b"blob", 1, 0.5, True), nested(2)))
    for _ in range(data.draw(st.integers(1, 4))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    try:
        messages_of(bytes(sound[: data.draw(st.integers(0, len(sound)))]))
    except MalformedPacket:
        return


osc_arguments = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=32, allow_nan=False),
    st.booleans(),
    st.none(),
    st.binary(min_size=1, max_size=20),
)


@settings(deadline=None)
@given(st.lists(osc_arguments, max_size=6))
def test_what_python_osc_writes_is_read_as_it_was_meant(arguments: list[Any]) -> None:
    (message,) = messages_of(packet("/umt/ping", *arguments))
    assert message.address == "/umt/ping"
    assert list(message.arguments) == arguments
    assert packet_of("/umt/ping", (), message.payload) == packet("/umt/ping", *arguments)


def test_bundles_of_python_osc_are_read_in_order() -> None:
    builder = OscBundleBuilder(IMMEDIATELY)
    for value in (1, 2, 3):
        message = OscMessageBuilder("/umt/domain")
        message.add_arg(value)
        builder.add_content(message.build())
    read = messages_of(builder.build().dgram)
    assert [message.arguments for message in read] == [(1,), (2,), (3,)]


def test_a_python_osc_client_steers(server: OscServer, sender: Sender, mailbox: Mailbox) -> None:
    with closing(SimpleUDPClient(server.host, server.port)) as client:
        client.send_message("/umt/domain", "c")
        client.send_message("/umt/mix", [0.5])
        sender.sync()
    assert mailbox.latest == Controls(domain=2, mix=0.5)


def test_a_socket_that_goes_on_failing_does_not_hold_the_thread(
    tiny_bundle: Bundle, mailbox: Mailbox
) -> None:
    class Failing:
        def recvfrom(self, _: int) -> None:
            raise OSError("unreachable")

    idle = OscServer(tiny_bundle, mailbox, OscSettings(port=0))
    idle.close()
    idle._socket = Failing()  # type: ignore[assignment]
    assert idle._drained() == []
    assert idle.counts.unanswered


def test_an_answer_that_nobody_takes_is_counted_and_no_fault(
    tiny_bundle: Bundle, mailbox: Mailbox
) -> None:
    idle = OscServer(tiny_bundle, mailbox, OscSettings(port=0))
    # From this machine's own address there is no way to another's.
    idle._carry_out(packet("/umt/ping"), ("192.0.2.1", 9))
    idle.close()
    assert idle.counts.unanswered == 1


def test_a_few_messages_are_all_carried_out_in_order(sender: Sender) -> None:
    for number in range(20):
        sender.send(packet("/umt/mix", number / 20))
        sender.send(packet("/umt/get", "mix"))
        assert sender.heard() == ("/umt/state", "mix", pytest.approx(number / 20))


def test_a_taken_port_is_one_clear_error(server: OscServer, tiny_bundle: Bundle) -> None:
    with pytest.raises(UmtError, match=f"{server.port}.*--osc-port"):
        OscServer(tiny_bundle, Mailbox(), OscSettings(port=server.port))


def test_it_listens_on_this_machine_alone(server: OscServer) -> None:
    assert server.host == "127.0.0.1"


def test_closing_frees_the_port_and_ends_the_thread(tiny_bundle: Bundle) -> None:
    threads = threading.active_count()
    first = OscServer(tiny_bundle, Mailbox(), OscSettings(port=0))
    first.start()
    first.close()
    first.close()
    assert threading.active_count() == threads
    OscServer(tiny_bundle, Mailbox(), OscSettings(port=first.port)).close()


def test_a_fault_of_ours_costs_one_packet(
    server: OscServer,
    sender: Sender,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(message: Message, outcome: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setitem(server.addresses.handlers, "/umt/domain", fail)
    sender.send(packet("/umt/domain", "b"))
    sender.send(GOOD)
    sender.sync()
    assert mailbox.latest.mix == 0.5
    assert "a bug" in caplog.text


needs_liblo = pytest.mark.skipif(
    not (shutil.which("oscsend") and shutil.which("oscdump")),
    reason="oscsend and oscdump are not installed (Debian package liblo-tools)",
)


@needs_liblo
def test_liblo_oscsend_steers(server: OscServer, sender: Sender, mailbox: Mailbox) -> None:
    for line in ("/umt/domain s b", "/umt/mix f 0.25", "/umt/gain/in i 3"):
        command = ["oscsend", "127.0.0.1", str(server.port), *line.split()]
        subprocess.run(command, check=True, timeout=WAIT_S)
    sender.sync()
    assert mailbox.latest == Controls(domain=1, mix=0.25, gain_in=3.0)


@contextmanager
def oscdump(port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(["oscdump", "-L", str(port)], stdout=file)
    try:
        yield
    finally:
        process.terminate()
        process.wait(WAIT_S)


@needs_liblo
def test_liblo_oscdump_reads_the_answers(server: OscServer, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "oscdump.log"
    asked = [Message("/umt/get", ("domain",)), Message("/umt/x", ())]
    deadline = time.monotonic() + WAIT_S
    with oscdump(port, log), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        # Sent until oscdump listens: it says nothing when it begins.
        while "/umt/error" not in log.read_text() and time.monotonic() < deadline:
            for answer in server.addresses.carry_out(asked, ("127.0.0.1", port)):
                out.sendto(answer, ("127.0.0.1", port))
            time.sleep(0.05)
    said = log.read_text()
    assert '/umt/state ss "domain" "a"' in said
    assert '/umt/error ss "/umt/x" "unknown address"' in said


def test_the_addresses_are_these_and_no_others(server: OscServer) -> None:
    controls = {
        "/umt/domain", "/umt/mix", "/umt/temperature", "/umt/gain/in", "/umt/gain/out",
        "/umt/bypass", "/umt/freeze", "/umt/latent/smooth", "/umt/latent/noise",
        "/umt/blend", "/umt/blend/domain", "/umt/seed", "/umt/record",
    }  # fmt: skip
    asked = {"/umt/get", "/umt/ping", "/umt/subscribe", "/umt/unsubscribe", "/umt/panic"}
    assert set(server.addresses.handlers) == controls | asked


@pytest.mark.skipif(sys.platform != "linux", reason="real-time policies are Linux's")
def test_it_has_the_least_priority_while_the_engine_has_some(
    server: OscServer, sender: Sender
) -> None:
    thread = server._thread.native_id
    assert thread is not None
    before = os.sched_getscheduler(thread)
    if not may_be_realtime()[0]:
        pytest.skip("this system grants no real-time priority")
    engine: Any = SimpleNamespace(meter=Meter(0.005), realtime_granted=None)
    server.follow(engine)
    sender.sync()
    assert os.sched_getscheduler(thread) == before
    # None: another sound server has taken over, and what the engine gets there is not known yet.
    for granted, level in ((False, 0), (True, 1), (None, 1), (False, 0), (True, 1)):
        engine.realtime_granted = granted
        sender.sync()
        sender.sync()
        assert os.sched_getparam(thread).sched_priority == level
