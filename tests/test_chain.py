"""The chain: as late as it says, block-exact, and determined by its inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model import mulaw
from model.bundle import Bundle
from model.errors import ConfigError, ShapeError, UnknownDomain
from numba_kernels.decoder import decode
from numba_kernels.encoder import encode
from numba_kernels.fir import polyphase
from numba_kernels.mixing import copy_clean, mix_limited, ramp_gain, store_ring
from numba_kernels.philox import fill_uniforms, philox
from realtime.backends import open_backend, rest_states
from realtime.chain import Chain
from realtime.controls import Controls, Mailbox
from realtime.resample import SUPPORTED_RATES
from realtime.seed import Uniforms
from tests.echo_backend import echo_backend, echo_bundle, echo_config

Audio = NDArray[np.float32]
BACKEND = "numba-float32"


def echo_chain(rate: int = 16000, lookahead_layers: int = 0, **options: Any) -> Chain:
    config = echo_config(lookahead_layers)
    return Chain(echo_bundle(config), echo_backend(config), rate, **options)


def network_chain(bundle: Bundle, rate: int = 16000, **options: Any) -> Chain:
    return Chain(bundle, open_backend(BACKEND, bundle), rate, **options)


def run(chain: Chain, audio: Audio, block: int = 100, controls: Controls | None = None) -> Audio:
    """Everything the chain makes of ``audio``, lead-in and tail included."""
    parts = [chain.process(audio[at : at + block], controls) for at in range(0, len(audio), block)]
    return np.concatenate([*parts, chain.flush(controls)])


def noise(length: int, seed: int = 0, level: float = 0.2) -> Audio:
    return np.random.default_rng(seed).normal(0, level, length).astype(np.float32)


def impulse(length: int, at: int) -> Audio:
    audio = np.zeros(length, np.float32)
    audio[at] = 0.5
    return audio


@pytest.mark.parametrize("lookahead_layers", [0, 3, 7])
@pytest.mark.parametrize("rate", SUPPORTED_RATES)
def test_a_dry_impulse_comes_out_at_the_declared_delay(rate: int, lookahead_layers: int) -> None:
    chain = echo_chain(rate, lookahead_layers, controls=Controls(mix=0.0))
    at = 333
    result = run(chain, impulse(1000, at))
    assert np.flatnonzero(result).tolist() == [at + chain.delay_samples]
    assert result[at + chain.delay_samples] == np.float32(0.5)


@pytest.mark.parametrize("lookahead_layers", [0, 3, 7])
@pytest.mark.parametrize("rate", SUPPORTED_RATES)
def test_the_translation_is_as_late_as_the_dry_path(rate: int, lookahead_layers: int) -> None:
    chain = echo_chain(rate, lookahead_layers)
    at = rate // 20
    result = run(chain, impulse(rate // 8, at)).astype(np.float64)
    # The nearest mu-law code to silence is not quite 0.
    result -= np.median(result)
    near = slice(at + chain.delay_samples - rate // 200, at + chain.delay_samples + rate // 200)
    power = result[near] ** 2
    centre = near.start + (np.arange(len(power)) * power).sum() / power.sum()
    assert centre == pytest.approx(at + chain.delay_s * rate, abs=0.1)
    assert abs(chain.delay_samples - chain.delay_s * rate) <= 0.5


@pytest.mark.parametrize("lookahead_layers", [0, 3])
@pytest.mark.parametrize("rate", [16000, 44100, 48000, 8000])
@pytest.mark.parametrize("block", [1, 64, 255, 4000])
def test_output_keeps_up_with_input(rate: int, block: int, lookahead_layers: int) -> None:
    chain, fed, out = echo_chain(rate, lookahead_layers), 0, 0
    most = chain.skip_unit + chain.most_output(1)
    for _ in range(30 if block < 4000 else 2):
        out += len(chain.process(noise(block)))
        fed += block
        assert fed <= out <= fed + most
        assert (chain.frames_in, chain.frames_out) == (fed, out)


def test_flushing_completes_the_timeline() -> None:
    chain = echo_chain(44100)
    assert len(run(chain, noise(1234))) == 1234 + chain.delay_samples


def test_it_is_the_network_on_the_whole_signal(tiny_bundle: Bundle) -> None:
    """At 16 kHz, hop by hop: encode all at once, then generate all at once."""
    backend, hop = open_backend(BACKEND, tiny_bundle), tiny_bundle.config.hop_samples
    audio, rest = noise(12 * hop), rest_states(backend)
    latents = backend.encoder.encode(audio, rest.encoder)
    uniforms = Uniforms(7, hop)
    drawn = [uniforms.fill(1, i, np.empty(hop, np.float32)) for i in range(12)]
    codes = backend.decoders[1].generate(latents, np.concatenate(drawn), rest.decoders[1], 0.8)

    chain = Chain(
        tiny_bundle, backend, seed=7, controls=Controls(domain=1, temperature=0.8, gain_out=-12)
    )
    result = run(chain, audio, block=77)[chain.delay_samples :]
    expected = mulaw.decode(codes) * 10 ** (-12 / 20)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_later_input_never_changes_earlier_output(tiny_bundle: Bundle) -> None:
    audio, chain = noise(3000), network_chain(tiny_bundle, 48000)
    first = run(chain, audio)
    audio[2000:] = 0.9
    chain.reset()
    second = run(chain, audio)
    np.testing.assert_array_equal(first[:2000], second[:2000])
    assert not np.array_equal(first, second)


def test_a_chain_at_rest_continues_silence(tiny_bundle: Bundle) -> None:
    """The first hop of silence gives what the rest state's next hop would: no transient."""
    backend, hop = open_backend(BACKEND, tiny_bundle), tiny_bundle.config.hop_samples
    rest = rest_states(backend)
    latent = backend.encoder.encode(np.zeros(hop, np.float32), rest.encoder.copy())
    later = backend.encoder.encode(np.zeros(40 * hop, np.float32), rest.encoder)[-1:]
    np.testing.assert_allclose(latent, later, atol=1e-6)
    chain = Chain(tiny_bundle, backend)
    expected = backend.decoders[0].generate(
        latent, Uniforms(0, hop).fill(0, 0, np.empty(hop, np.float32)), rest.decoders[0]
    )
    result = chain.process(np.zeros(hop, np.float32))
    assert (result[:hop] == 0.0).all()
    np.testing.assert_array_equal(result[hop:], mulaw.decode(expected))


def test_nothing_is_compiled_once_a_chain_is_built(tiny_bundle: Bundle) -> None:
    kernels: Any = (
        copy_clean, store_ring, ramp_gain, mix_limited, polyphase, fill_uniforms, encode, decode,
    )  # fmt: skip
    for rate in (16000, 44100):
        chain = network_chain(tiny_bundle, rate)
        compiled = [len(kernel.signatures) for kernel in kernels]
        frozen = noise(900)
        frozen.flags.writeable = False
        for block in (frozen, noise(1800)[::2]):
            chain.process(block, Controls(domain=1, gain_in=3.0, mix=0.5))
        chain.skip(2)
        chain.flush()
        assert [len(kernel.signatures) for kernel in kernels] == compiled


def test_controls_take_hold_at_the_next_hop_without_a_step() -> None:
    chain = echo_chain()
    tone = np.full(800, 0.25, np.float32)
    loud = chain.process(tone[:400], Controls(mix=0.0))
    quiet = chain.process(tone[400:], Controls(mix=0.0, gain_out=-60.0))
    whole = np.concatenate([loud, quiet])[80:]
    np.testing.assert_array_equal(whole[:400], tone[:400])
    assert np.abs(np.diff(whole)).max() < 0.25 / 80 * 1.01
    np.testing.assert_allclose(whole[480:], 0.25e-3, rtol=1e-5)


def test_bypass_is_the_input_as_it_is_and_as_late() -> None:
    chain, audio = echo_chain(48000), noise(9600)
    controls = Controls(bypass=True, mix=0.7, gain_out=-20.0, gain_in=12.0)
    passed = np.concatenate([chain.process(audio, controls), chain.flush(controls)])
    late = chain.delay_samples
    # One hop of moving there; then bit for bit.
    np.testing.assert_array_equal(passed[late:][480:9600], audio[480:])


def test_bypass_comes_and_goes_without_a_step() -> None:
    chain, tone = echo_chain(), np.full(800, 0.25, np.float32)
    out = [
        chain.process(tone, Controls(mix=0.0, gain_out=-60.0, bypass=bypass))
        for bypass in (False, True, False)
    ]
    assert np.abs(np.diff(np.concatenate(out)[80:])).max() < 0.25 / 80 * 1.01
    np.testing.assert_array_equal(out[1][160:], tone[160:])


@pytest.mark.parametrize(("gain_in", "factor"), [(0.0, 1.0), (6.0, 1.9953), (-20.0, 0.1)])
def test_input_gain_drives_the_network_and_not_the_dry_path(gain_in: float, factor: float) -> None:
    audio = np.full(800, 0.2, np.float32)
    wet = run(echo_chain(controls=Controls(gain_in=gain_in)), audio)
    dry = run(echo_chain(controls=Controls(gain_in=gain_in, mix=0.0)), audio)
    np.testing.assert_allclose(wet[80:880], 0.2 * factor, rtol=0.03)
    np.testing.assert_array_equal(dry[80:880], audio)


def test_input_gain_moves_within_one_hop_and_stays() -> None:
    chain, tone = echo_chain(), np.full(800, 0.2, np.float32)
    chain.process(tone)
    moving = chain.process(tone, Controls(gain_in=-20.0))
    np.testing.assert_allclose(moving[:80], np.linspace(0.2, 0.02, 80), rtol=0.05)
    np.testing.assert_allclose(moving[80:], 0.02, rtol=0.03)


def test_mixing_keeps_the_power_of_unrelated_signals() -> None:
    """A domain of gain 0 is silent, so half the mix is the dry signal 3 dB down."""
    config = echo_config()
    chain = Chain(echo_bundle(config), echo_backend(config, gains=(0.0, 0.0)))
    audio = noise(2000)
    result = run(chain, audio, controls=Controls(mix=0.5))[chain.delay_samples :]
    np.testing.assert_allclose(result[200:], audio[200:] * np.sqrt(0.5), atol=2e-4)


@pytest.mark.parametrize("gain_out", [0.0, 24.0])
def test_output_never_leaves_full_scale(gain_out: float) -> None:
    chain = echo_chain(48000, controls=Controls(mix=0.5, gain_in=24.0, gain_out=gain_out))
    audio = noise(9000, level=2.0)
    audio[::97] = 1e30
    result = run(chain, audio)
    assert np.abs(result).max() <= 1.0


def test_the_limiter_leaves_ordinary_levels_alone() -> None:
    chain = echo_chain(controls=Controls(mix=0.0))
    audio = np.linspace(-0.9, 0.9, 500, dtype=np.float32)
    np.testing.assert_array_equal(run(chain, audio)[chain.delay_samples :], audio)


def test_levels_no_filter_should_meet_are_silence() -> None:
    chain = echo_chain(48000, controls=Controls(mix=0.0))
    audio = np.array([1e-45, -1e-38, 9e-21, -1.1e-20, 0.5] * 50, np.float32)
    result = run(chain, audio)[chain.delay_samples :]
    np.testing.assert_array_equal(result, np.where(np.abs(audio) < 1e-20, 0.0, audio))


@pytest.mark.parametrize("mix", [0.5, 1.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_bad_input_samples_do_no_lasting_harm(tiny_bundle: Bundle, bad: float, mix: float) -> None:
    audio = noise(4800)
    audio[1000:1010] = bad
    chain = network_chain(tiny_bundle, 48000, controls=Controls(mix=mix))
    result = run(chain, audio)
    assert np.isfinite(result).all()
    assert np.abs(result[-1000:]).max() > 0.0


def test_panic_fades_out_within_a_hop_and_begins_as_at_first(tiny_bundle: Bundle) -> None:
    """The same input sounds the same after it, whatever was played before."""
    hop = tiny_bundle.config.hop_samples
    backend = open_backend("numba-float32", tiny_bundle)
    audio = np.random.default_rng(2).normal(0, 0.2, 12 * hop).astype(np.float32)
    # Input is faded in after it.
    audio[:hop] = 0.0
    fresh = Chain(tiny_bundle, backend, seed=3).process(audio)
    chain = Chain(tiny_bundle, backend, seed=3)
    chain.process(audio, Controls(domain=1))
    chain.process(audio[: 3 * hop], Controls(domain=0))
    mailbox = Mailbox(Controls(domain=0))
    last = chain.process(audio[hop : 2 * hop], mailbox.replace(panic=True))
    assert np.abs(last[: hop // 2]).max() > 0.01
    assert np.abs(last[-2:]).max() < 0.02 * np.abs(last).max()
    again = chain.process(audio, mailbox.latest)
    # The gains come back in the course of the first hop; sampling is that of the first run.
    np.testing.assert_array_equal(again[hop:], fresh[2 * hop :])
    assert np.abs(again[:4]).max() < 0.05 * np.abs(again[:hop]).max()


def test_a_seed_from_osc_begins_the_same_numbers_anew(tiny_bundle: Bundle) -> None:
    chain = Chain(tiny_bundle, open_backend("numba-float32", tiny_bundle), seed=3)
    silence = np.zeros(4 * tiny_bundle.config.hop_samples, np.float32)
    mailbox = Mailbox()

    def run(seed: int) -> np.ndarray:
        mailbox.replace(seed=seed)
        chain.process(silence, mailbox.replace(panic=True))
        return chain.process(silence)

    chain.process(silence)
    first = run(9)
    np.testing.assert_array_equal(run(9), first)
    assert not np.array_equal(run(8), first)


def test_skipping_jumps_the_timeline_and_drops_what_was_inside() -> None:
    chain = echo_chain(48000, controls=Controls(mix=0.0))
    before = chain.process(np.full(900, 0.5, np.float32))
    dropped = chain.skip(3)
    assert dropped == 3 * 240
    after = chain.process(impulse(2000, 700))
    assert chain.frames_out == len(before) + dropped + len(after)
    place = np.flatnonzero(after) + len(before) + dropped
    assert place.tolist() == [900 + dropped + 700 + chain.delay_samples]


@pytest.mark.parametrize("lookahead_layers", [0, 3, 7])
@pytest.mark.parametrize("heard", [120, 480, 481])
def test_what_was_inside_before_a_skip_is_not_heard_after_it(
    heard: int, lookahead_layers: int
) -> None:
    chain = echo_chain(lookahead_layers=lookahead_layers)
    chain.process(np.full(heard, 0.5, np.float32))
    chain.skip(1)
    assert np.abs(chain.process(np.zeros(480, np.float32))).max() < 1e-3


def test_a_decoder_in_full_voice_resumes_gently_after_a_skip() -> None:
    config = echo_config()
    chain = Chain(echo_bundle(config), backend := echo_backend(config))
    decoder: Any = backend.decoders[0]
    decoder.generate = lambda *_: np.full(80, 230, np.uint8)
    before = chain.process(np.zeros(240, np.float32))
    chain.skip(1)
    after = chain.process(np.zeros(240, np.float32))
    assert before[-1] > 0.2
    assert after[-1] == before[-1]
    assert abs(after[0]) < 0.01
    assert np.abs(np.diff(after)).max() < 0.01


@pytest.mark.parametrize("rate", [16000, 44100, 48000, 11025])
@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_output_resumes_gently_after_a_skip(rate: int, mix: float) -> None:
    chain = echo_chain(rate, controls=Controls(mix=mix))
    loud = np.full(rate // 10, 0.5, np.float32)
    chain.process(loud)
    chain.skip(2)
    after = chain.process(loud)
    assert abs(after[0]) < 0.02
    assert np.abs(np.diff(after)).max() < 0.06
    np.testing.assert_allclose(after[-10:], 0.5, rtol=0.02)


def test_skipped_hops_leave_later_samples_their_own_numbers() -> None:
    config = echo_config()
    chain = Chain(echo_bundle(config), backend := echo_backend(config), seed=3)
    decoder: Any = backend.decoders[0]
    decoder.uniforms.clear()
    chain.process(np.zeros(160, np.float32))
    chain.skip(5)
    chain.process(np.zeros(80, np.float32))
    expected = Uniforms(3, 80).fill(0, 7, np.empty(80, np.float32))
    np.testing.assert_array_equal(decoder.uniforms[2], expected)


def test_the_meter_sees_hops_and_levels() -> None:
    chain = echo_chain(48000)
    run(chain, np.full(4800, 0.5, np.float32))
    shown = chain.meter.snapshot()
    assert shown.hops == (4800 + chain.delay_samples) // 240
    assert shown.level_in_db == pytest.approx(-6.0, abs=1.0)
    assert shown.level_out_db == pytest.approx(-6.0, abs=1.0)


def test_the_meter_sees_a_peak_amid_a_hop() -> None:
    chain = echo_chain(controls=Controls(mix=0.0))
    run(chain, impulse(80, 40))
    assert chain.meter.peak_in == pytest.approx(0.5, rel=0.1)
    assert chain.meter.peak_out == pytest.approx(0.5, rel=0.1)


def test_wrong_blocks_and_settings_are_refused() -> None:
    chain = echo_chain()
    with pytest.raises(ShapeError, match="one-dimensional float32, got float64"):
        chain.process(np.zeros(10))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="out must hold"):
        chain.process_into(np.zeros(100, np.float32), np.zeros(10, np.float32))
    with pytest.raises(UnknownDomain, match="no domain 5"):
        chain.process(np.zeros(10, np.float32), Controls(domain=5))
    with pytest.raises(UnknownDomain, match="no domain 2"):
        echo_chain(controls=Controls(domain=2))
    with pytest.raises(ConfigError, match="no resampling at 47999 Hz"):
        echo_chain(47999)
    with pytest.raises(ConfigError, match="seed must be a whole number"):
        echo_chain(seed=-1)


def test_uniforms_are_the_published_generator() -> None:
    """Known answers of Philox4x32-10 from the Random123 distribution."""
    counter = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    words = (np.uint64(word) for word in (*counter, 0xA4093822, 0x299F31D0))
    assert philox(*words) == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)
    zeros = (np.uint64(0) for _ in range(6))
    assert philox(*zeros) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)


def test_uniforms_depend_on_place_alone() -> None:
    whole = Uniforms(2**64 - 1, 1000).fill(3, 0, np.empty(1000, np.float32))
    assert whole.min() >= 0.0
    assert whole.max() < 1.0
    assert whole.mean() == pytest.approx(0.5, abs=0.03)
    for hop in (8, 10, 125):
        uniforms = Uniforms(2**64 - 1, hop)
        parts = [uniforms.fill(3, i, np.empty(hop, np.float32)) for i in range(1000 // hop)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        # A hop may begin amid the generator's four, whatever was drawn last.
        Uniforms(9, hop).fill(0, 0, np.empty(hop, np.float32))
        again = uniforms.fill(3, 3, np.empty(hop, np.float32))
        np.testing.assert_array_equal(again, whole[3 * hop : 4 * hop])
    other = Uniforms(2**64 - 1, 1000).fill(4, 0, np.empty(1000, np.float32))
    assert not np.isin(whole, other).all()
