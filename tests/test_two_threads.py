"""Two threads that share the sample loop: the same samples as one, whatever their timing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.bundle import random_bundle
from model.config import DecoderConfig, ModelConfig, profile
from model.errors import ConfigError
from model.interface import Latents
from realtime.decoder import WEIGHT_TYPES, NumbaDecoder
from realtime.partner import Partner, processor_time, shared_partner
from realtime.priority import Place, ThreadPriority, own_place, pin, raise_below, usable_cpus
from realtime.stream_encoder import StreamEncoder

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[1]


def config_of(residual: int, skip: int, head: int) -> ModelConfig:
    """A small network; its hop is no multiple of the samples computed ahead."""
    tiny = profile("tiny")
    decoder = DecoderConfig(2, 5, residual, skip, head)
    return ModelConfig("odd", tiny.latent_channels, 37, tiny.encoder, decoder)


def pair(config: ModelConfig, dtype: str) -> tuple[NumbaDecoder, NumbaDecoder]:
    """The same decoder for one thread and for two."""
    weights = random_bundle(config, ("a",), seed=3).decoders["a"]
    return NumbaDecoder(config, weights, dtype), NumbaDecoder(config, weights, dtype, threads=2)


def given(config: ModelConfig, hops: int, rng: np.random.Generator) -> tuple[Latents, np.ndarray]:
    """Latents and uniforms of so many hops."""
    latents = rng.normal(size=(hops, config.latent_channels)).astype(np.float32)
    return latents, rng.random(hops * config.hop_samples, dtype=np.float32)


@pytest.mark.parametrize("dtype", WEIGHT_TYPES)
@pytest.mark.parametrize("widths", [(32, 32, 16), (64, 32, 48), (128, 128, 128), (96, 160, 64)])
def test_two_threads_give_the_samples_of_one(widths: tuple[int, int, int], dtype: str) -> None:
    config = config_of(*widths)
    one, two = pair(config, dtype)
    rng = np.random.default_rng(5)
    state_one, state_two = one.initial_state(), two.initial_state()
    for hops in (1, 7, 30):
        latents, uniforms = given(config, hops, rng)
        expected = one.generate(latents, uniforms, state_one)
        np.testing.assert_array_equal(two.generate(latents, uniforms, state_two), expected)
        assert len(np.unique(expected)) > 8
        for name, array in state_one.arrays().items():
            np.testing.assert_array_equal(state_two.arrays()[name], array)


@pytest.mark.parametrize("dtype", WEIGHT_TYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("layers", [1, 5, 6])
def test_two_threads_give_the_latents_of_one(layers: int, causal: bool, dtype: str) -> None:
    tiny = profile("tiny")
    encoder = replace(tiny.encoder, layers_per_block=layers, causal=causal)
    config = replace(tiny, encoder=encoder)
    weights = random_bundle(config, ("a",), seed=4).encoder
    one, two = (
        StreamEncoder(config, weights, dtype),
        StreamEncoder(config, weights, dtype, threads=2),
    )
    state_one, state_two = one.initial_state(), two.initial_state()
    rng = np.random.default_rng(7)
    for samples in (1, 47, 48, 97, 1000, 3):
        audio = rng.normal(0, 0.3, samples).astype(np.float32)
        expected = one.encode(audio, state_one)
        np.testing.assert_array_equal(two.encode(audio, state_two), expected)
        for name, array in state_one.arrays().items():
            np.testing.assert_array_equal(state_two.arrays()[name], array)


def test_threads_that_do_not_fit_are_refused() -> None:
    config = config_of(48, 64, 32)
    weights = random_bundle(config, ("a",), seed=3).decoders["a"]
    with pytest.raises(ConfigError, match="multiples of 32, got 48 and 64; use one thread"):
        NumbaDecoder(config, weights, "int8", threads=2)
    for threads in (0, 3):
        with pytest.raises(ConfigError, match=f"threads must be 1 to 2, got {threads}"):
            NumbaDecoder(config, weights, "int8", threads=threads)
    encoder = random_bundle(profile("tiny"), ("a",), seed=3).encoder
    with pytest.raises(ConfigError, match="threads must be 1 to 2, got 3"):
        StreamEncoder(profile("tiny"), encoder, threads=3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_partner_of_its_own() -> None:
    config = config_of(32, 32, 32)
    _, two = pair(config, "int8")
    latents, uniforms = given(config, 3, np.random.default_rng(8))
    expected = two.generate(latents, uniforms, two.initial_state())
    child = os.fork()
    if child == 0:
        again = two.generate(latents, uniforms, two.initial_state())
        os._exit(0 if np.array_equal(again, expected) else 1)
    deadline = time.monotonic() + 30.0
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child waits for a thread that was not copied")
    assert ended[1] == 0


def test_streams_that_share_the_partner_keep_their_samples() -> None:
    config = config_of(32, 32, 32)
    one, two = pair(config, "int8")
    latents, uniforms = given(config, 40, np.random.default_rng(6))
    expected = one.generate(latents, uniforms, one.initial_state())
    heard: list[np.ndarray] = []

    def play() -> None:
        heard.extend(two.generate(latents, uniforms, two.initial_state()) for _ in range(5))

    players = [threading.Thread(target=play) for _ in range(3)]
    for player in players:
        player.start()
    for player in players:
        player.join(timeout=60)
    assert len(heard) == 15
    for codes in heard:
        np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_member_that_fails_does_not_leave_the_other_waiting(failing: int) -> None:
    partner = Partner()
    released = threading.Event()
    members: list[int] = []

    def work(member: int, count: int) -> None:
        members.append(count)
        if member == failing:
            raise RuntimeError("broken")
        assert released.wait(timeout=10)

    with pytest.raises(RuntimeError, match="broken"):
        partner.share(work, released.set)
    assert members == [2, 2]
    assert released.is_set()
    done: list[int] = []
    partner.share(lambda member, _count: done.append(member), lambda: None)
    assert sorted(done) == [0, 1], "the partner was lost"


def test_a_partner_that_is_taken_leaves_one_to_work_alone() -> None:
    partner = Partner()
    counts: list[int] = []

    def outer(member: int, _count: int) -> None:
        if member == 0:
            partner.share(lambda _member, count: counts.append(count), lambda: None)

    partner.share(outer, lambda: None)
    assert counts == [1]


def test_processor_time_counts_the_partner() -> None:
    done: list[int] = []

    def toil(member: int, _members: int) -> None:
        started = time.thread_time()
        while member == 1 and time.thread_time() < started + 0.1:
            done.append(member)

    before, own = processor_time(), time.thread_time()
    shared_partner().share(toil, lambda: None)
    own = time.thread_time() - own
    assert done, "the partner was taken"
    assert 0.1 <= processor_time() - before - own < 0.2


def on_a_thread(work: Callable[[], None]) -> None:
    """Run ``work`` on a thread of its own, so that its priority and CPUs end with it."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=120)
    assert not thread.is_alive()
    for failure in failures:
        raise failure


def take_realtime_priority() -> None:
    """Skips where the system grants none."""
    granted, reason = raise_below(ThreadPriority(True, 30))
    if not granted:
        pytest.skip(f"this system grants no real-time priority: {reason}")


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling is set on Linux alone")
def test_the_partner_has_the_place_of_whoever_asks() -> None:
    partner = Partner()
    places: dict[str, list[Place]] = {"urgent": [], "ordinary": []}

    def share(name: str) -> None:
        partner.share(lambda _member, _members: places[name].append(own_place()), lambda: None)

    def urgent() -> None:
        pin({min(usable_cpus())})
        take_realtime_priority()
        share("urgent")

    on_a_thread(urgent)
    share("ordinary")
    for one, other in places.values():
        assert one == other
    assert places["urgent"][0].level == 20
    assert places["ordinary"][0] == own_place() != places["urgent"][0]


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling is set on Linux alone")
@pytest.mark.parametrize("urgent", [False, True])
def test_two_threads_on_one_cpu_still_finish(urgent: bool) -> None:
    config = config_of(32, 32, 32)
    one, two = pair(config, "int8")
    latents, uniforms = given(config, 2, np.random.default_rng(9))
    expected = one.generate(latents, uniforms, one.initial_state())
    heard: list[np.ndarray] = []

    def play() -> None:
        pin({min(usable_cpus())})
        if urgent:
            take_realtime_priority()
        heard.append(two.generate(latents, uniforms, two.initial_state()))

    on_a_thread(play)
    np.testing.assert_array_equal(heard[0], expected)


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling is set on Linux alone")
@pytest.mark.parametrize(("wanted", "named"), [({4096}, "4096"), (set(), "none")])
def test_cpus_that_are_not_there_are_refused(wanted: set[int], named: str) -> None:
    before = usable_cpus()
    with pytest.raises(ConfigError, match=f"cannot run on CPUs {named}; choose from "):
        pin(wanted)
    assert usable_cpus() == before


def test_elsewhere_threads_are_kept_on_no_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="cannot be kept on CPUs on darwin; leave --cpus out"):
        pin({0})
    assert own_place() == own_place()
    assert usable_cpus()


RACE_HUNT = """
import sys
import numpy as np
import numba_kernels.decoder as decoder
from numba_kernels import jit, spin
fault = sys.argv[1]
samples = int(sys.argv[2])
jit.kernel_cache_folder = lambda: None

@jit.inlined
def delay(member, turn, salt):
    # A pause now and then, its length and place drawn from the turn.
    mixed = (np.uint64(turn) * np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(member * 77 + salt)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    if (mixed >> np.uint64(32)) & np.uint64(63) == np.uint64(0):
        for _ in range((mixed >> np.uint64(40)) & np.uint64(127)):
            spin._relax()

@jit.inlined
def publish(counters, member, turn):
    if fault == "early":
        spin.publish(counters, member, turn + 1)
    delay(member, turn, 1)
    spin.publish(counters, member, turn)

@jit.inlined
def wait(counters, member, turn):
    if fault != "unwaited":
        spin.wait(counters, member, turn)
    delay(member, turn, 2)

decoder.publish, decoder.wait = publish, wait
decoder.decode = jit.kernel(decoder.decode.py_func)
from tests.test_two_threads import config_of, pair
import realtime.decoder
realtime.decoder.decode = decoder.decode
config = config_of(32, 32, 32)
one, two = pair(config, "int8")
states = one.initial_state(), two.initial_state()
rng = np.random.default_rng(9)
hops = 500
for start in range(0, samples, hops * config.hop_samples):
    latents = rng.normal(size=(hops, config.latent_channels)).astype(np.float32)
    uniforms = rng.random(hops * config.hop_samples, dtype=np.float32)
    expected = one.generate(latents, uniforms, states[0])
    if not np.array_equal(two.generate(latents, uniforms, states[1]), expected):
        sys.exit(f"other samples by {start + len(uniforms)}")
print("the same")
"""


@pytest.mark.parametrize(("fault", "samples"), [("", 1_000_000), ("early", 200_000)])
def test_random_delays_change_no_sample_and_planted_races_do(fault: str, samples: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACE_HUNT, fault, str(samples)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if fault:
        assert "other samples by" in done.stderr, done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert done.stdout == "the same\n"
