"""The torch network equals the numpy reference, and its weights are those of the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model import mulaw  # noqa: E402
from model.config import PROFILES, ModelConfig, profile  # noqa: E402
from model.network import Confusion, Decoder, Encoder  # noqa: E402
from model.reference import ReferenceDecoder, ReferenceEncoder  # noqa: E402
from model.weights import decoder_shapes, encoder_shapes  # noqa: E402

TINY = profile("tiny")
LOOKAHEAD = replace(TINY, encoder=replace(TINY.encoder, causal=False))


def weights_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("config", PROFILES.values(), ids=PROFILES)
def test_state_dicts_match_the_table_of_weights(config: ModelConfig) -> None:
    for module, shapes in (
        (Encoder(config), encoder_shapes(config)),
        (Decoder(config), decoder_shapes(config)),
    ):
        assert {name: tuple(v.shape) for name, v in module.state_dict().items()} == shapes


@pytest.mark.parametrize("config", [TINY, LOOKAHEAD], ids=["causal", "lookahead"])
def test_encoder_equals_the_reference(config: ModelConfig) -> None:
    torch.manual_seed(3)
    encoder = Encoder(config)
    audio = np.random.default_rng(3).normal(0, 0.3, 9 * config.hop_samples).astype(np.float32)
    levels = mulaw.companded(mulaw.encode(audio))
    with torch.no_grad():
        ours = encoder(torch.from_numpy(levels)[None])[0].numpy()

    reference = ReferenceEncoder(config, weights_of(encoder))
    # The module hears levels of zero after the end; code 128 is 0.004, so compare before it.
    heard = reference.encode(audio, reference.initial_state())
    assert len(heard) == 9 - -(-reference.delay_samples // config.hop_samples)
    np.testing.assert_allclose(ours[: len(heard)], heard, atol=1e-5)


def test_decoder_equals_the_reference() -> None:
    torch.manual_seed(4)
    decoder = Decoder(TINY)
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 256, 3 * TINY.hop_samples).astype(np.uint8)
    latents = rng.normal(0, 1, (3, TINY.latent_channels)).astype(np.float32)
    with torch.no_grad():
        ours = decoder(
            torch.from_numpy(codes.astype(np.int64))[None], torch.from_numpy(latents)[None]
        )
    reference = ReferenceDecoder(TINY, weights_of(decoder))
    expected = reference.teacher_force(latents, codes, reference.initial_state())
    np.testing.assert_allclose(ours[0].numpy(), expected, atol=1e-4)


def test_confusion_network_gives_one_score_per_domain() -> None:
    scores = Confusion(latent_channels=8, domains=3)(torch.randn(5, 17, 8))
    assert scores.shape == (5, 3)


def test_confusion_network_can_be_taught_to_tell_two_domains_apart() -> None:
    torch.manual_seed(0)
    network = Confusion(latent_channels=8, domains=2)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    labels = torch.arange(16) % 2
    latents = torch.randn(16, 10, 8) + labels[:, None, None] * 0.8
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(latents), labels).backward()
        optimiser.step()
    assert (network(latents).argmax(-1) == labels).float().mean() == 1.0
