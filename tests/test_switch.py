"""Domain switching: the incoming decoder knows what was heard, and the fade hides the change."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model import mulaw
from model.bundle import Bundle
from realtime.backends import open_backend
from realtime.chain import Chain
from realtime.controls import Controls
from realtime.priming import Primer, PrimingJob
from realtime.seed import Uniforms
from realtime.switch import DomainPlayer, Target
from tests.echo_backend import EchoDecoder, echo_backend, echo_bundle, echo_config

BACKEND = "numba-float32"
HOP = 80
FADE_HOPS = 6
"""30 ms of 5 ms hops."""


class HeldPrimer:
    """Stands where the helper thread does, and works when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[PrimingJob] = []

    def submit(self, job: PrimingJob) -> None:
        job.resting = False
        self.jobs.append(job)

    def work(self) -> None:
        for job in self.jobs:
            job.catch_up()
            job.resting = True
        self.jobs.clear()


def echo_player(
    primer: Any = None,
    gains: tuple[float, ...] = (1.0, 0.5, 0.25),
    threads: int = 1,
    joins: dict[int, bool] | None = None,
) -> tuple[DomainPlayer, list[EchoDecoder]]:
    config = echo_config()
    decoders: Any = echo_backend(config, gains).decoders
    rest = [decoder.initial_state() for decoder in decoders]
    silence = np.zeros((1, HOP), np.float32)
    player = DomainPlayer(
        decoders,
        rest,
        silence,
        (1.0,) * 3,
        seed=0,
        domain=0,
        primer=primer,
        threads=threads,
        joins=joins,
    )
    return player, decoders


def play(
    player: DomainPlayer, target: int | Target, hops: int, level: float = 0.5
) -> NDArray[np.float32]:
    latent = np.full((1, HOP), level, np.float32)
    target = Target(target) if isinstance(target, int) else target
    return np.concatenate([player.play(latent, target, 1.0).copy() for _ in range(hops)])


def test_the_crossfade_has_equal_power_and_no_step() -> None:
    player, _ = echo_player()
    steady = play(player, 0, 3)
    faded = play(player, 1, FADE_HOPS)
    settled = play(player, 1, 3)
    angle = (np.arange(len(faded)) + 0.5) / len(faded) * np.pi / 2
    high, low = steady[0], settled[-1]
    np.testing.assert_allclose(faded, high * np.cos(angle) + low * np.sin(angle), atol=1e-5)
    assert (settled == low).all()
    assert low == pytest.approx(0.25, rel=0.03)
    whole = np.concatenate([steady, faded, settled])
    assert np.abs(np.diff(whole)).max() < 0.005


def test_an_inline_switch_takes_the_fade_alone() -> None:
    player, _ = echo_player()
    play(player, 0, 2)
    play(player, 1, FADE_HOPS - 1)
    assert (player.domain, player.switches) == (0, 0)
    play(player, 1, 1)
    assert (player.domain, player.switches, player.last_switch_hops) == (1, 1, FADE_HOPS)


def test_the_incoming_decoder_reads_what_was_heard() -> None:
    player, decoders = echo_player()
    past = play(player, 0, 20)
    play(player, 1, FADE_HOPS)
    state: Any = player._state
    hops = player.config.receptive_field_hops
    assert decoders[1].primed_hops == hops
    read = mulaw.decode(np.array(state.codes[: hops * HOP], np.uint8))
    np.testing.assert_array_equal(read, past[-hops * HOP :])


def test_a_switch_right_after_another_reads_the_mixture() -> None:
    player, _ = echo_player()
    play(player, 0, 20)
    faded = play(player, 1, FADE_HOPS)
    play(player, 2, FADE_HOPS)
    state: Any = player._state
    hops = player.config.receptive_field_hops
    read = np.array(state.codes[: hops * HOP], np.uint8)[-len(faded) :]
    np.testing.assert_array_equal(read, mulaw.encode(faded)[-len(read) :])


@pytest.mark.parametrize("profile", ["tiny", "live"])
def test_a_primed_decoder_continues_as_if_it_had_read_everything(
    profile: str, request: pytest.FixtureRequest
) -> None:
    """A receptive field of history is enough: the rest of the past changes nothing at all."""
    bundle: Bundle = request.getfixturevalue(f"{profile}_bundle")
    config, backend = bundle.config, open_backend(BACKEND, bundle)
    rng, hops = np.random.default_rng(0), bundle.config.receptive_field_hops + 3
    latents = rng.normal(0, 0.5, (hops + 9, config.latent_channels)).astype(np.float32)
    rest = [decoder.initial_state() for decoder in backend.decoders]
    player = DomainPlayer(backend.decoders, rest, latents[:1], (1.0, 1.0), seed=3, domain=0)
    heard = [player.play(latents[i : i + 1], Target(0), 1.0).copy() for i in range(hops)]
    player.play(latents[hops : hops + 1], Target(1), 1.0)
    assert player._second is not None

    incoming = backend.decoders[1]
    knowing = incoming.initial_state()
    codes = mulaw.encode(np.concatenate(heard))
    incoming.prime(latents[:hops], codes, knowing)
    uniforms = Uniforms(3, config.hop_samples)
    drawn = uniforms.fill(1, hops, np.empty(config.hop_samples, np.float32))
    incoming.generate(latents[hops : hops + 1], drawn, knowing, 1.0)

    probe = rng.normal(0, 0.5, (1, config.latent_channels)).astype(np.float32)
    follow = np.zeros(config.hop_samples, np.uint8)
    np.testing.assert_array_equal(
        incoming.teacher_force(probe, follow, player._second.state),
        incoming.teacher_force(probe, follow, knowing),
    )


def test_the_outgoing_domain_plays_on_while_the_helper_works() -> None:
    primer = HeldPrimer()
    player, decoders = echo_player(primer)
    high = play(player, 0, 1)[0]
    assert (play(player, 1, 4) == high).all()
    primer.work()
    play(player, 1, FADE_HOPS)
    assert player.domain == 1
    assert player.last_switch_hops == 4 + FADE_HOPS
    assert decoders[1].primed_hops == player.config.receptive_field_hops + 4


def test_the_player_reads_one_last_hop_itself() -> None:
    primer = HeldPrimer()
    player, decoders = echo_player(primer)
    play(player, 1, 1)
    job = primer.jobs[0]
    primer.work()
    job.resting = False
    play(player, 1, 1)
    job.resting = True
    assert job.hops_left == 1
    play(player, 1, 1)
    assert player._second is job
    assert decoders[1].primed_hops == player.config.receptive_field_hops + 2


def test_a_helper_two_hops_behind_is_sent_back_to_work() -> None:
    primer = HeldPrimer()
    player, _ = echo_player(primer)
    play(player, 1, 1)
    job = primer.jobs[0]
    primer.work()
    job.resting = False
    play(player, 1, 2)
    job.resting = True
    play(player, 1, 1)
    assert player._second is None
    assert primer.jobs == [job]
    primer.work()
    play(player, 1, FADE_HOPS)
    assert player.domain == 1


def test_the_newest_request_wins_while_priming() -> None:
    primer = HeldPrimer()
    player, _ = echo_player(primer)
    play(player, 1, 2)
    first = primer.jobs[0]
    play(player, 2, 1)
    assert first.cancelled
    primer.work()
    play(player, 2, FADE_HOPS)
    assert (player.domain, player.switches) == (2, 1)


def test_changing_back_while_priming_calls_it_off() -> None:
    primer = HeldPrimer()
    player, decoders = echo_player(primer)
    high = play(player, 1, 2)[0]
    assert (play(player, 0, 3) == high).all()
    assert primer.jobs[0].cancelled
    primer.work()
    assert decoders[1].primed_hops == 0
    assert (play(player, 0, FADE_HOPS) == high).all()
    assert (player.domain, player.switches) == (0, 0)


def test_a_request_during_a_crossfade_turns_it_back_without_a_step() -> None:
    """Two hops in, two hops back, and the domain that is wanted now."""
    player, _ = echo_player()
    heard = [play(player, 0, 2), play(player, 1, 2), play(player, 2, 2 + FADE_HOPS)]
    assert (player.domain, player.switches) == (2, 1)
    assert player.last_switch_hops == 2 + FADE_HOPS
    assert np.abs(np.diff(np.concatenate(heard))).max() < 0.005


def test_changing_back_during_a_crossfade_turns_it_back() -> None:
    player, _ = echo_player()
    high = play(player, 0, 2)[0]
    heard = play(player, 1, 4), play(player, 0, 4)
    np.testing.assert_allclose(heard[1], heard[0][::-1], atol=1e-5)
    assert (play(player, 0, 2) == high).all()
    assert (player.domain, player.switches) == (0, 0)


def test_a_blend_comes_stays_moves_and_goes_without_a_step() -> None:
    player, decoders = echo_player()
    steady = play(player, 0, 2)
    come = play(player, Target(0, 1, 0.5), FADE_HOPS)
    stay = play(player, Target(0, 1, 0.5), 2)
    more = play(player, Target(0, 1, 1.0), FADE_HOPS)
    alone = play(player, Target(0, 1, 1.0), 1)
    gone = play(player, 0, FADE_HOPS)
    high, low = steady[0], alone[0]
    assert low == pytest.approx(high / 2, rel=0.05)
    np.testing.assert_allclose(stay, (high + low) * np.sqrt(0.5), rtol=1e-4)
    whole = np.concatenate([steady, come, stay, more, alone, gone])
    assert np.abs(np.diff(whole)).max() < 0.01
    assert gone[-1] == pytest.approx(high, rel=0.02)
    assert (play(player, 0, 1) == high).all()
    assert (player.domain, player.switches) == (0, 0)
    # The voice that went is not sampled any more.
    before = len(decoders[1].uniforms)
    play(player, 0, 1)
    assert len(decoders[1].uniforms) == before


def test_a_switch_to_the_domain_that_is_blended_in_goes_on_from_there() -> None:
    player, decoders = echo_player()
    play(player, Target(0, 1, 0.5), FADE_HOPS)
    read = decoders[1].primed_hops
    play(player, 1, FADE_HOPS // 2)
    assert (player.domain, player.switches) == (1, 1)
    assert decoders[1].primed_hops == read


def test_a_blend_with_the_domain_itself_is_that_domain() -> None:
    player, _ = echo_player()
    high = play(player, 0, 1)[0]
    assert (play(player, Target(0, 0, 0.7), 4) == high).all()


def test_a_blend_survives_a_switch() -> None:
    player, _ = echo_player()
    play(player, Target(0, 2, 0.5), FADE_HOPS)
    # Out with the blend, in with the domain, and the blend again.
    heard = play(player, Target(1, 2, 0.5), 3 * FADE_HOPS)
    assert player.domain == 1
    assert np.abs(np.diff(heard)).max() < 0.01
    level = mulaw.decode(mulaw.encode(np.array([0.25, 0.125], np.float32)))
    assert heard[-1] == pytest.approx(level.sum() * np.sqrt(0.5), rel=0.02)


def test_a_run_with_a_helper_thread_can_be_played_again_from_its_joins() -> None:
    """The second time nobody helps: a voice comes in where it did, however late that was."""

    def run(player: DomainPlayer, primer: HeldPrimer | None) -> NDArray[np.float32]:
        parts = []
        for hop in range(260):
            if primer is not None and hop in (5, 33, 47, 62, 75, 100, 130, 150, 190, 230):
                primer.work()
            target = Target(hop // 30 % 3, 2, 0.25 if hop % 50 > 20 else 0.0)
            parts.append(play(player, target, 1, level=0.2 + 0.001 * hop))
        return np.concatenate(parts)

    primer, joins = HeldPrimer(), {}
    live, _ = echo_player(primer)
    live.on_join = joins.__setitem__
    heard = run(live, primer)
    assert len(joins) > 3
    again, _ = echo_player(joins=joins)
    np.testing.assert_array_equal(run(again, None), heard)
    assert again.switches == live.switches


def test_sampling_begins_anew_with_a_seed() -> None:
    player, decoders = echo_player()
    play(player, 0, 3)
    player.seed(0)
    play(player, 0, 3)
    drawn = decoders[0].uniforms
    np.testing.assert_array_equal(drawn[3:], drawn[:3])
    player.seed(1)
    play(player, 0, 1)
    assert not np.array_equal(drawn[6], drawn[0])


def test_a_helper_that_falls_far_behind_begins_again() -> None:
    primer = HeldPrimer()
    player, _ = echo_player(primer)
    play(player, 1, 200)
    assert len(primer.jobs) > 1
    primer.work()
    play(player, 1, FADE_HOPS)
    assert player.domain == 1
    assert player.last_switch_hops == 200 + FADE_HOPS


def test_a_helper_slower_than_the_music_does_not_keep_a_domain_out_for_ever() -> None:
    primer = HeldPrimer()
    player, decoders = echo_player(primer)
    play(player, 0, 3)
    second = 16_000 // HOP
    play(player, 1, second)
    assert player.domain == 0
    assert decoders[1].primed_hops == 0
    play(player, 1, FADE_HOPS)
    assert player.domain == 1
    assert player.last_switch_hops == second + FADE_HOPS
    # The player read no more than it can within a hop.
    assert decoders[1].primed_hops == 1
    assert all(job.cancelled for job in primer.jobs)


def test_a_failure_on_the_helper_thread_is_raised_by_the_player() -> None:
    primer = Primer()
    player, decoders = echo_player(primer)

    def fail(*_: Any) -> None:
        raise RuntimeError("out of luck")

    decoders[1].prime = fail  # type: ignore[method-assign]
    play(player, 1, 1)
    primer.close()
    with pytest.raises(RuntimeError, match="out of luck"):
        play(player, 1, 1)


def test_a_chain_with_a_helper_thread_switches_too(tiny_bundle: Bundle) -> None:
    backend = open_backend(BACKEND, tiny_bundle)
    with Chain(tiny_bundle, backend, background=True) as chain:
        for _ in range(2000):
            chain.process(np.zeros(HOP, np.float32), Controls(domain=2))
            if chain.meter.switches:
                break
            time.sleep(0.002)
        assert chain.meter.switches == 1
        assert chain.meter.snapshot().last_switch_ms >= 30.0


def test_switching_in_a_chain_is_repeatable_and_local(tiny_bundle: Bundle) -> None:
    backend = open_backend(BACKEND, tiny_bundle)
    audio = np.random.default_rng(0).normal(0, 0.2, 40 * HOP).astype(np.float32)

    def run(block: int, target: int) -> NDArray[np.float32]:
        chain = Chain(tiny_bundle, backend, seed=1)
        parts = [
            chain.process(audio[at : at + block], Controls(domain=target if at >= 1600 else 0))
            for at in range(0, len(audio), block)
        ]
        return np.concatenate(parts)

    switched = run(160, 1)
    np.testing.assert_array_equal(run(160, 1), switched)
    np.testing.assert_array_equal(run(80, 1), switched)
    stayed = run(160, 0)
    np.testing.assert_array_equal(stayed[: 1600 + HOP], switched[: 1600 + HOP])
    assert not np.array_equal(stayed, switched)


def test_a_missing_domain_stops_nothing_that_plays() -> None:
    config = echo_config()
    chain = Chain(echo_bundle(config), echo_backend(config))
    before = chain.process(np.full(160, 0.5, np.float32))
    with pytest.raises(Exception, match="no domain 9"):
        chain.process(np.full(80, 0.5, np.float32), Controls(domain=9))
    after = chain.process(np.full(80, 0.5, np.float32), Controls(domain=0))
    assert after[-1] == before[-1]


def test_a_crossfade_on_two_threads_sounds_like_one(tiny_bundle: Bundle) -> None:
    rng = np.random.default_rng(8)
    audio = rng.normal(0, 0.3, 40 * HOP).astype(np.float32)

    def heard(threads: int) -> NDArray[np.float32]:
        with Chain(tiny_bundle, open_backend(BACKEND, tiny_bundle, threads)) as chain:
            before = chain.process(audio[: 10 * HOP], Controls(domain=0))
            after = chain.process(audio[10 * HOP :], Controls(domain=1))
        return np.concatenate([before, after])

    np.testing.assert_array_equal(heard(2), heard(1))


def test_the_decoders_of_a_crossfade_play_on_a_thread_each() -> None:
    player, decoders = echo_player(threads=2)
    players: dict[int, set[int]] = {0: set(), 1: set()}
    for domain in players:
        plain = decoders[domain].generate

        def watched(*given: Any, domain: int = domain, plain: Any = plain) -> Any:
            players[domain].add(threading.get_ident())
            return plain(*given)

        decoders[domain].generate = watched  # type: ignore[method-assign]
    play(player, 0, 2)
    assert players == {0: {threading.get_ident()}, 1: set()}
    play(player, 1, FADE_HOPS)
    assert players[0] == {threading.get_ident()}
    assert len(players[1]) == 1
    assert not players[0] & players[1]
