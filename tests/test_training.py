"""Training: losses with known answers, augmentation, batches, and what one step changes."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model import mulaw  # noqa: E402
from model.config import SILENCE, profile  # noqa: E402
from model.errors import ConfigError, DataError  # noqa: E402
from model.network import Encoder  # noqa: E402
from model.reference import ReferenceDecoder, ReferenceEncoder  # noqa: E402
from tests.synthetic import recordings, settings  # noqa: E402
from training import augment, fused  # noqa: E402
from training import batches as batches_module  # noqa: E402
from training.augment import modulate_pitch, shift_pitch  # noqa: E402
from training.batches import GAIN_DB, REMNANTS_DB, Batches, Segments  # noqa: E402
from training.content import BANDS, HIGHEST, LOWEST, content, semitones  # noqa: E402
from training.export import to_bundle  # noqa: E402
from training.losses import autoencoding, classification, evenness, reconstruction  # noqa: E402
from training.networks import (  # noqa: E402
    MovingAverage,
    Networks,
    accent_of,
    without_accent,
)
from training.trainer import Trainer  # noqa: E402


def batches(**changes: object) -> Batches:
    sound = recordings()
    return Batches(settings(**changes), sound.train, sound.test)


def test_reconstruction_of_equal_logits_is_the_logarithm_of_the_levels() -> None:
    codes = torch.randint(0, 256, (2, 5))
    assert float(reconstruction(torch.zeros(2, 5, 256), codes)) == pytest.approx(np.log(256))


def test_reconstruction_is_the_mean_over_samples() -> None:
    logits = torch.full((1, 2, 256), -1e4)
    logits[0, 0, 3] = logits[0, 0, 4] = 0.0  # Half a chance: ln 2 nats.
    logits[0, 1, 9] = 0.0  # Certain: no nats.
    assert float(reconstruction(logits, torch.tensor([[3, 9]]))) == pytest.approx(np.log(2) / 2)


def test_classification_scores_the_right_domain() -> None:
    scores = torch.log(torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    expected = -(np.log(0.75) + np.log(0.5)) / 2
    assert float(classification(scores, 1)) == pytest.approx(expected)


def codes_of(*pitches: int) -> torch.Tensor:
    time = np.arange(4000) / 16_000
    waves = [np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * time) for p in pitches]
    return torch.from_numpy(mulaw.encode(0.5 * sum(waves) / len(waves)).astype(np.int64))[None]


@pytest.mark.parametrize("pitch", [LOWEST, 60, 69, HIGHEST])
def test_a_tone_lies_in_its_semitones_band(pitch: int) -> None:
    energies = semitones(codes_of(pitch), hop_samples=80)
    assert energies.shape == (1, 50, BANDS)
    assert int(energies[0, -1].argmax()) == pitch - LOWEST
    assert float(energies[0, -1].max()) == pytest.approx(0.25, rel=0.01)


def test_a_hop_hears_128_ms_of_the_past_and_nothing_of_the_future() -> None:
    tone = codes_of(69)[:, :2400]
    silence = torch.full_like(tone, 128)
    energies = semitones(torch.cat([silence, tone, silence], 1), hop_samples=80)[0, :, 69 - LOWEST]
    # The window fades at its ends, so what it barely reaches is faint.
    heard = (energies > 1e-4).nonzero().flatten() * 80
    assert 2400 <= int(heard.min()) < 2400 + 400
    assert 4800 + 2048 - 600 < int(heard.max()) < 4800 + 2048


def test_an_even_guess_of_the_semitones_scores_the_logarithm_of_their_number() -> None:
    energies = semitones(codes_of(60, 67), hop_samples=80)
    even = torch.zeros(1, 50, BANDS)
    assert float(content(even, energies)) == pytest.approx(np.log(BANDS), rel=1e-5)
    right = energies.clamp_min(1e-12).log()
    assert float(content(right, energies)) < 2.0


def test_silent_hops_are_not_scored() -> None:
    assert float(content(torch.randn(2, 5, BANDS), torch.zeros(2, 5, BANDS))) == 0.0


def test_the_content_head_is_trained_only_when_it_counts() -> None:
    for weight, moves in ((0.0, False), (1.0, True)):
        trainer = Trainer(settings(content_weight=weight))
        before = trainer.networks.content.hidden.weight.detach().clone()
        report = trainer.train(batches().at(0))
        assert torch.equal(before, trainer.networks.content.hidden.weight) != moves
        assert (report.content_loss > 0) == moves


def test_evenness_is_least_where_every_domain_is_as_likely() -> None:
    assert float(evenness(torch.zeros(3, 6))) == pytest.approx(0.0, abs=1e-6)
    # Half and half: a mean of log 1/2 twice, beside almost nothing four times.
    scores = torch.tensor([[0.0, 0.0, -8.0, -8.0, -8.0, -8.0]])
    sure = -(2 * np.log(0.5) + 4 * (np.log(0.5) - 8)) / 6 - np.log(6)
    assert float(evenness(scores)) == pytest.approx(sure, rel=1e-3)


def test_autoencoding_weighs_what_can_be_guessed() -> None:
    loss = autoencoding(torch.tensor(2.0), torch.tensor(3.0), 0.5)
    assert float(loss) == pytest.approx(2.0 + 1.5)


@pytest.mark.parametrize("half_steps", [-0.5, 0.5])
def test_shift_pitch_moves_a_tone_by_half_a_semitone(half_steps: float) -> None:
    time = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    shifted = shift_pitch(tone, half_steps)
    assert shifted.shape == tone.shape
    spectrum = np.abs(np.fft.rfft(shifted * np.hanning(len(shifted)), 1 << 18))
    peak = spectrum.argmax() * 16_000 / (1 << 18)
    assert 12 * np.log2(peak / 440) == pytest.approx(half_steps, abs=0.05)


@pytest.mark.parametrize("samples", [560, 16_000])
def test_modulation_changes_one_stretch_and_nothing_else(samples: int) -> None:
    audio = np.sin(np.arange(samples) * 0.3).astype(np.float32)
    before = audio.copy()
    out = modulate_pitch(audio, np.random.default_rng(1))
    np.testing.assert_array_equal(audio, before)
    changed = np.flatnonzero(out != audio)
    assert len(out) == samples
    assert len(changed) > 0
    assert changed[-1] - changed[0] < min(samples, 8000)


@pytest.mark.parametrize(("share", "heard"), [(0.0, 0), (1.0, 4)])
def test_only_the_input_passes_the_microphone(
    monkeypatch: pytest.MonkeyPatch, share: float, heard: int
) -> None:
    passed = []

    def record(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        passed.append(audio)
        return np.zeros_like(audio)

    monkeypatch.setattr(batches_module, "through_microphone", record)
    batch = batches(batch=4, microphone_share=share).at(0)
    assert len(passed) == heard
    assert (float(batch.levels.std()) == 0.0) == (heard > 0)
    assert bool((batch.codes != 128).any()), "the target is as it was"


def test_noise_is_on_the_past_alone_and_no_larger_than_asked() -> None:
    quiet, noisy = batches(batch=8), batches(batch=8, teacher_noise=6.0)
    for step in range(4):
        plain, jittered = quiet.at(step), noisy.at(step)
        assert torch.equal(plain.past, plain.codes)
        assert torch.equal(jittered.codes, plain.codes)
        assert torch.equal(jittered.levels, plain.levels)
        spreads = (jittered.past - jittered.codes).float().std(1)
        assert 0 < spreads.max() < 6.5
        # Each row has an amount of its own.
        assert len(spreads.unique()) == 8
    assert torch.equal(noisy.held_out(0, 2).past, noisy.held_out(0, 2).codes)


def test_a_share_of_pasts_is_far_off_in_level_and_nothing_else() -> None:
    source, plain = batches(batch=8, teacher_off_level=0.5), batches(batch=8)
    errors = []
    for step in range(8):
        batch, as_it_is = source.at(step), plain.at(step)
        assert torch.equal(batch.levels, as_it_is.levels)
        assert torch.equal(batch.codes, as_it_is.codes), "what is to be said is at its own level"
        past, said = (mulaw.decode(x.numpy().astype(np.uint8)) for x in (batch.past, batch.codes))
        errors += list(np.median(20 * np.log10(np.abs(past / said)), 1))
    sizes = np.abs(errors)
    assert 0.3 < np.mean(sizes > 0.5) < 0.7
    # A code is some hundredths of a sample's value: the median is near the level, not at it.
    assert ((sizes < 0.01) | ((sizes > 1.8) & (sizes < 6.2))).all()
    assert min(errors) < -2.0
    assert max(errors) > 2.0
    assert torch.equal(source.held_out(0, 2).past, source.held_out(0, 2).codes)


def test_a_share_of_pasts_has_other_music_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source, plain = batches(batch=8, teacher_remnants=0.5), batches(batch=8)
    cuts: list[np.ndarray] = []
    cut = Segments.cut

    def noted(self: Segments, rng: np.random.Generator) -> np.ndarray:
        cuts.append(cut(self, rng))
        return cuts[-1]

    gains = []
    for step in range(12):
        as_it_is = plain.at(step)
        monkeypatch.setattr(Segments, "cut", noted)
        batch = source.at(step)
        monkeypatch.setattr(Segments, "cut", cut)
        assert torch.equal(batch.levels, as_it_is.levels)
        assert torch.equal(batch.codes, as_it_is.codes), "what is to be said is the music alone"
        past, said = (mulaw.decode(x.numpy().astype(np.uint8)) for x in (batch.past, batch.codes))
        for mixed, music in zip(past, said, strict=True):
            cuts.pop(0)
            if np.array_equal(mixed, music):
                continue
            other = cuts.pop(0)
            gains.append(20 * np.log10((mixed - music) @ other / (other @ other)))
        assert not cuts
    assert 0.3 < len(gains) / 96 < 0.7
    # 8 bits, and where the sum is clipped, blur a little.
    assert min(gains) > REMNANTS_DB[0] - 1.0
    assert max(gains) < REMNANTS_DB[1] + 1.0
    assert max(gains) - min(gains) > 10.0
    assert torch.equal(source.held_out(0, 2).past, source.held_out(0, 2).codes)


def test_the_pitch_is_off_while_the_encoder_learns_and_true_to_a_decoder_alone() -> None:
    source, plain = batches(encoder_steps=2), batches(encoder_steps=1)
    for step, is_off in ((0, True), (1, True), (2, False), (3, False)):
        batch = source.at(step)
        as_said = torch.from_numpy(mulaw.companded(batch.codes.numpy().astype(np.uint8)))
        assert torch.equal(batch.levels, as_said) == (not is_off)
    assert not torch.equal(source.at(1).levels, plain.at(1).levels)
    added = batches(given_encoder=True).at(0)
    as_said = torch.from_numpy(mulaw.companded(added.codes.numpy().astype(np.uint8)))
    assert torch.equal(added.levels, as_said)


def test_the_past_may_begin_with_silence_for_up_to_a_receptive_field() -> None:
    source = batches(batch=8, teacher_silence=0.5)
    reach = profile("tiny").decoder.receptive_field
    silences = []
    for step in range(8):
        batch = source.at(step)
        assert torch.equal(batch.codes, batches(batch=8).at(step).codes)
        for past, codes in zip(batch.past.numpy(), batch.codes.numpy(), strict=True):
            changed = np.flatnonzero(past != codes)
            silences.append(changed[-1] + 1 if len(changed) else 0)
            assert (past[: silences[-1]] == SILENCE).all()
    assert reach / 2 < max(silences) < reach
    assert 0.3 < np.mean(np.array(silences) > 0) < 0.7
    assert torch.equal(source.held_out(0, 2).past, source.held_out(0, 2).codes)


def test_the_decoder_is_shown_the_noisy_past_and_scored_on_the_true_codes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = Trainer(settings())
    batch = batches(teacher_noise=6.0).at(0)
    shown = []
    decode = trainer.networks.decode

    def watch(decoder: int, past: torch.Tensor, *others: object) -> torch.Tensor:
        shown.append((past, decode(decoder, past, *others)))
        return shown[-1][1]

    monkeypatch.setattr(trainer.networks, "decode", watch)
    report = trainer.train(batch)
    ((past, logits),) = shown
    assert torch.equal(past, batch.past)
    assert report.loss == pytest.approx(float(reconstruction(logits.detach(), batch.codes)))


def test_stretches_and_shifts_are_drawn_from_the_ranges_of_the_paper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths, shifts = [], []

    def record(audio: np.ndarray, half_steps: float) -> np.ndarray:
        lengths.append(len(audio) / 16_000)
        shifts.append(half_steps)
        return audio

    monkeypatch.setattr(augment, "shift_pitch", record)
    for seed in range(300):
        modulate_pitch(np.zeros(16_000, np.float32), np.random.default_rng(seed))
    for drawn, (low, high) in ((lengths, (0.25, 0.5)), (shifts, (-0.5, 0.5))):
        margin = 0.03 * (high - low)
        assert low <= min(drawn) < low + margin
        assert high - margin < max(drawn) <= high


def test_every_segment_is_equally_likely_and_its_level_changes() -> None:
    pieces = [np.array(piece, np.float32) for piece in ([0.1, 0.2], [0.1, 0.3, 0.15], [0.5])]
    segments = Segments("a", "test", pieces, samples=2)
    rng = np.random.default_rng(0)
    cuts = [segments.cut(rng) for _ in range(900)]
    ratios = [round(float(cut[1] / cut[0]), 3) for cut in cuts]
    assert {ratio: 250 < ratios.count(ratio) < 350 for ratio in set(ratios)} == {
        2.0: True,
        3.0: True,
        0.5: True,
    }
    firsts = [cut[0] for cut, ratio in zip(cuts, ratios, strict=True) if ratio == 2.0]
    gains_db = 20 * np.log10(np.array(firsts) / 0.1)
    assert gains_db.min() == pytest.approx(GAIN_DB[0], abs=0.5)
    assert gains_db.max() == pytest.approx(GAIN_DB[1], abs=0.5)


def test_the_rows_of_a_batch_differ() -> None:
    codes = batches(batch=4).at(0).codes
    assert len({tuple(row.tolist()) for row in codes}) == 4


def test_held_out_batches_come_from_the_test_split() -> None:
    silence = {name: [np.zeros(16_000, np.float32)] for name in ("flat", "soft")}
    source = Batches(settings(), recordings().train, silence)
    assert (source.held_out(1, 3).codes == 128).all()


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first, again = batches().at(5), batches().at(5)
    torch.testing.assert_close(first.levels, again.levels, rtol=0, atol=0)
    assert not torch.equal(first.codes, batches().at(7).codes)
    assert not torch.equal(first.codes, batches(seed=1).at(5).codes)


def test_processes_share_out_the_rows_of_one_batch() -> None:
    sound = recordings()
    whole = batches(batch=4).at(3)
    parts = [Batches(settings(batch=4), sound.train, sound.test, r, 2).at(3) for r in (0, 1)]
    torch.testing.assert_close(torch.cat([p.levels for p in parts]), whole.levels, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([p.codes for p in parts]), whole.codes, rtol=0, atol=0)


def test_input_is_out_of_tune_and_target_is_not() -> None:
    batch = batches().at(0)
    clean = torch.from_numpy(mulaw.companded(batch.codes.numpy().astype(np.uint8)))
    assert not torch.equal(batch.levels, clean)
    held_out = batches().held_out(0, 2)
    clean = torch.from_numpy(mulaw.companded(held_out.codes.numpy().astype(np.uint8)))
    torch.testing.assert_close(held_out.levels, clean, rtol=0, atol=0)


def test_recordings_that_are_too_short_are_refused() -> None:
    with pytest.raises(DataError, match="domain flat has no training recording of 5.00 s"):
        batches(segment_hops=1000)
    with pytest.raises(DataError, match="domain flat has no test recording of 1.05 s"):
        batches(segment_hops=210)


def test_a_batch_must_divide_over_the_processes() -> None:
    sound = recordings()
    with pytest.raises(DataError, match="3 processes"):
        Batches(settings(batch=4), sound.train, sound.test, 0, 3)


def test_a_step_trains_the_encoder_and_its_own_domains_decoder_alone() -> None:
    trainer = Trainer(settings())
    before = {n: p.detach().clone() for n, p in trainer.networks.named_parameters()}
    trainer.train(batches().at(0))
    moved = {n for n, p in trainer.networks.named_parameters() if not torch.equal(p, before[n])}
    assert any(n.startswith("encoder.") for n in moved)
    assert any(n.startswith("decoders.0.") for n in moved)
    assert any(n.startswith("confusion.") for n in moved)
    assert not any(n.startswith("decoders.1.") for n in moved)


def test_the_autoencoder_loss_does_not_train_the_confusion_network() -> None:
    trainer = Trainer(settings())
    batch = batches().at(0)
    trainer.train(batch)
    assert all(p.grad is None for p in trainer.networks.confusion.parameters())


def test_the_encoder_moves_so_that_the_guess_is_more_even() -> None:
    """With a lambda that drowns the reconstruction, a step must make the guess more even."""
    trainer = Trainer(settings(confusion_weight=1e4, learning_rate=0.1))
    batch = batches().at(0)
    encoder_before = deepcopy(trainer.networks.encoder)
    trainer.train(batch)
    confusion = trainer.networks.confusion

    def told(encoder: Encoder) -> float:
        latents = fused.encode(encoder, batch.levels, torch.float32)
        return float(evenness(confusion(latents)).detach())

    assert told(trainer.networks.encoder) < 0.97 * told(encoder_before)


def test_a_step_follows_the_confusion_network_as_the_same_step_left_it() -> None:
    """The gradient is that of loss (1) on the plain network, the discriminator trained first."""
    trainer = Trainer(settings(confusion_weight=30.0, learning_rate=5.0))
    trainer.networks.dtype = torch.float32
    encoder = deepcopy(trainer.networks.encoder)
    decoder = deepcopy(trainer.networks.decoders[0])
    batch = batches().at(0)
    report = trainer.train(batch)

    def norm(confusion: torch.nn.Module) -> float:
        latents = encoder(batch.levels)
        told = -torch.log_softmax(confusion(latents), -1).mean()
        logits = decoder(batch.codes, latents)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.codes.flatten())
        weights = [*encoder.parameters(), *decoder.parameters()]
        gradients = torch.autograd.grad(loss + 30.0 * told, weights)
        return float(torch.stack([g.norm() for g in gradients]).norm())

    assert report.gradient_norm == pytest.approx(norm(trainer.networks.confusion), rel=1e-3)
    untrained = Trainer(settings()).networks.confusion
    assert report.gradient_norm != pytest.approx(norm(untrained), rel=1e-2)


def test_gradients_are_clipped_together() -> None:
    trainer = Trainer(settings(gradient_clip=1e-3))
    assert trainer.train(batches().at(0)).gradient_norm > 1e-3
    _, _, encoder, decoder, _, accent, _ = trainer.state()["optimisers"]
    gradients = []
    for part in (encoder, decoder, accent):
        # The first moments start as a tenth and a twentieth of the gradient.
        gradients += [10 * s["exp_avg"] for s in part["adam"]["state"].values()]
        gradients += [20 * s["momentum"] for s in part["muon"].get("state", {}).values()]
    assert float(torch.stack([g.norm() for g in gradients]).norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("is_shared", [False, True])
def test_the_average_follows_what_a_step_trained(is_shared: bool) -> None:
    networks = Networks(settings(domains=("flat", "soft", "third")))
    average = MovingAverage(networks, decay=0.75)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter += 4.0
    gaps = {}
    for step in (10_000, 0):  # The last step of a long run, and the first: a decay of 0.1.
        average.update(networks, 1, 2, step, is_shared)
        gaps[step] = {
            name: float((theirs - average.networks.state_dict()[name]).mean())
            for name, theirs in networks.state_dict().items()
        }
    for name, gap in gaps[10_000].items():
        # What is trained in one of three steps moves as far as in three.
        if name.startswith("encoder."):
            left = 0.75
        elif name.startswith("decoders.2." if name.endswith("current.bias") else "decoders.1."):
            left = 0.75 if is_shared and not name.endswith("current.bias") else 0.75**3
        else:
            left = 1.0
        first = {0.75: 0.1, 0.75**3: 0.1**3, 1.0: 1.0}[left]
        assert gap == pytest.approx(4.0 * left, rel=1e-4), name
        assert gaps[0][name] == pytest.approx(4.0 * left * first, rel=1e-3), name


def test_encoder_and_decoders_are_averaged_over_as_many_steps() -> None:
    networks = Networks(settings(domains=("flat", "soft", "third", "fourth")))
    average = MovingAverage(networks, decay=0.98)
    steps = 3000
    for step in range(steps):
        domain = step % 4
        with torch.no_grad():
            for part in (networks.encoder, networks.decoder(domain)):
                for parameter in part.parameters():
                    parameter.fill_(step)
        average.update(networks, domain, domain, step, is_shared=False)
    # A value that rises by one a step is followed from 50 steps behind.
    for name, value in average.networks.state_dict().items():
        if name.startswith(("encoder.", "decoders.")):
            assert steps - float(value.mean()) == pytest.approx(50, abs=4), name


def test_the_averaged_weights_are_what_is_exported() -> None:
    trainer = Trainer(settings())
    start = deepcopy(trainer.networks)
    trainer.train(batches().at(0))
    bundle = to_bundle(trainer, recordings().about, {})
    for exported, first, last, left in (
        (bundle.encoder["latent.weight"], start.encoder, trainer.networks.encoder, 0.1),
        (
            bundle.decoders["flat"]["head.logits.weight"],
            start.decoders[0],
            trainer.networks.decoders[0],
            0.1**2,
        ),
    ):
        name = "latent.weight" if first is start.encoder else "head.logits.weight"
        before, after = (m.state_dict()[name].numpy() for m in (first, last))
        np.testing.assert_allclose(
            exported, left * before + (1 - left) * after, rtol=1e-4, atol=1e-7
        )


def test_training_lowers_the_loss() -> None:
    trainer = Trainer(settings(steps=400, learning_rate=2e-2))
    batch = batches().at(0)
    losses = []
    for _ in range(60):
        losses.append(trainer.train(batch).loss)
        trainer.step += 1  # Stay with the first domain.
    # Not the last: at this rate single steps go astray.
    assert min(losses) < losses[0] - 1.0


def test_a_shared_decoder_is_handed_to_every_domain() -> None:
    trainer = Trainer(settings(shared_steps=3))
    source = batches()
    for step in range(3):
        trainer.train(source.at(step))
    first = {n: p.clone() for n, p in trainer.networks.decoders[0].state_dict().items()}
    trainer.train(source.at(3))  # Domain 1's turn: it starts from the shared decoder.
    for name, value in trainer.networks.decoders[0].state_dict().items():
        torch.testing.assert_close(value, first[name], rtol=0, atol=0)
    second = trainer.networks.decoders[1].state_dict()
    distance = max(float((second[n] - v).abs().max()) for n, v in first.items())
    # One step on, from the shared weights; decoders begun apart would differ by 0.1 and more.
    assert 0 < distance < 0.05


def test_while_a_decoder_is_shared_each_domain_keeps_its_accent() -> None:
    trainer = Trainer(settings(shared_steps=10))
    flat, soft = (trainer.networks.decoder(i) for i in (0, 1))
    start = deepcopy(flat)
    trainer.step = 1  # The second domain's turn.
    trainer.train(batches().at(1))
    for ours, first in zip(accent_of(flat), accent_of(start), strict=True):
        torch.testing.assert_close(ours, first, rtol=0, atol=0)
    for ours, first in zip(accent_of(soft), accent_of(start), strict=True):
        assert not torch.equal(ours, first)
    for ours, first in zip(without_accent(soft), without_accent(start), strict=True):
        torch.testing.assert_close(ours, first, rtol=0, atol=0)
    assert not torch.equal(flat.head.logits.weight, start.head.logits.weight)


def test_an_accent_is_heard() -> None:
    networks = Networks(settings())
    with torch.no_grad():
        accent_of(networks.decoder(1))[0].add_(1.0)
    codes, latents = torch.randint(0, 256, (1, 160)), torch.randn(1, 2, 8)
    plain = networks.decode(0, codes, latents)
    accented = networks.decode(0, codes, latents, accent=1)
    assert (accented - plain).abs().max() > 0.01
    voice = networks.voice(0, 1)
    expected = fused.decode(networks.config, voice, codes, latents.to(networks.dtype))
    torch.testing.assert_close(accented, expected, rtol=0, atol=0)


def test_a_finished_encoder_stays_and_is_the_average_that_ships() -> None:
    trainer = Trainer(settings(encoder_steps=2, content_weight=0.5))
    source = batches()
    for step in range(2):
        trainer.train(source.at(step))
    average = deepcopy(trainer.average.networks.encoder.state_dict())
    before = deepcopy(trainer.networks.state_dict())
    report = trainer.train(source.at(2))
    assert report.gradient_norm > 0
    for kind in (trainer.networks, trainer.average.networks):
        for name, value in kind.encoder.state_dict().items():
            torch.testing.assert_close(value, average[name], rtol=1e-6, atol=1e-7)
    after = trainer.networks.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"encoder", "decoders"}  # The encoder once, to its average.


def test_decoders_part_with_the_shared_ones_average_and_moments() -> None:
    names = ("flat", "soft", "third")
    sound = recordings(names)
    trainer = Trainer(settings(domains=names, shared_steps=3, average_decay=0.5))
    source = Batches(trainer.settings, sound.train, sound.test)
    for step in range(3):
        trainer.train(source.at(step))
    before = deepcopy(trainer.state())
    for step in (3, 4):  # The first two part ways; the third has not been trained since.
        trainer.train(source.at(step))
    after = trainer.state()
    for kind in ("networks", "average"):
        for name, value in before[kind].items():
            if name.startswith("decoders.0.") and not name.endswith("current.bias"):
                third = after[kind][name.replace("decoders.0.", "decoders.2.")]
                torch.testing.assert_close(third, value, rtol=0, atol=0)
    for kind in ("adam", "muon"):
        shared, third = (state["optimisers"][i][kind] for state, i in ((before, 3), (after, 5)))
        assert len(shared["state"]) == len(third["state"]) > 0
        for i, moments in shared["state"].items():
            torch.testing.assert_close(third["state"][i], moments, rtol=0, atol=0)


def test_a_decoder_that_is_still_shared_speaks_for_every_domain() -> None:
    trainer = Trainer(settings(shared_steps=10))
    source = batches()
    for step in range(4):
        trainer.train(source.at(step))
    bundle = to_bundle(trainer, recordings().about, {})
    accents = 0
    for name, value in bundle.decoders["flat"].items():
        if name.endswith("current.bias"):
            accents += 1
            assert not np.array_equal(bundle.decoders["soft"][name], value)
        else:
            np.testing.assert_array_equal(bundle.decoders["soft"][name], value)
    assert accents == len(profile("tiny").decoder.dilations)


def test_the_bundle_a_run_exports_scores_as_the_run_did() -> None:
    """Trained torch weights, written as a bundle, mean the same to the numpy reference."""
    trainer = Trainer(settings(average_decay=0.5))
    source = batches()
    for step in range(6):
        trainer.train(source.at(step))
    bundle = to_bundle(trainer, recordings().about, {"steps": 6})
    held_out = source.held_out(1, 1)
    codes = held_out.codes[0].numpy().astype(np.uint8)

    encoder = ReferenceEncoder(bundle.config, bundle.encoder)
    latents = encoder.encode(mulaw.decode(codes), encoder.initial_state())
    decoder = ReferenceDecoder(bundle.config, bundle.decoders["soft"])
    logits = decoder.teacher_force(latents, codes, decoder.initial_state())
    expected = float(reconstruction(torch.from_numpy(logits)[None], held_out.codes))

    # The trainer may compute in bfloat16.
    assert trainer.held_out(1, held_out) == pytest.approx(expected, abs=0.02)


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    schedule = settings(steps=1000, cooldown=0.5)
    assert schedule.learning_rate_at(0) == pytest.approx(1e-5)
    assert schedule.learning_rate_at(300) == pytest.approx(1e-3)
    assert schedule.learning_rate_at(750) == pytest.approx(5e-4)
    assert schedule.learning_rate_at(1000) == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"cooldown": 1.0},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"gradient_clip": -1.0},
        {"confusion_weight": -0.01},
        {"shared_steps": -1},
        {"domains": ("a", "a")},
    ],
)
def test_bad_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        settings(**change)
