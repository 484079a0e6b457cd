"""The fast training path computes the plain network's outputs and gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from model.config import ModelConfig, profile  # noqa: E402
from model.network import Decoder, Encoder  # noqa: E402
from training import fused  # noqa: E402

TINY = profile("tiny")
LOOKAHEAD = replace(TINY, encoder=replace(TINY.encoder, causal=False))


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_same_gradients(
    ours: dict[str, torch.Tensor], plain: dict[str, torch.Tensor], tolerance: float
) -> None:
    assert ours.keys() == plain.keys()
    for name, expected in plain.items():
        error = (ours[name] - expected).norm() / expected.norm().clamp_min(1e-12)
        assert error < tolerance, f"{name}: relative gradient error {error:.2e}"


# Shorter than the dilations, and longer than the receptive field.
@pytest.mark.parametrize("hops", [1, 7])
@pytest.mark.parametrize("config", [TINY, LOOKAHEAD], ids=["causal", "lookahead"])
def test_encoder_equals_the_plain_network(config: ModelConfig, hops: int) -> None:
    torch.manual_seed(hops)
    encoder = Encoder(config)
    levels = torch.rand(3, hops * config.hop_samples) * 2 - 1
    target = torch.randn(3, hops, config.latent_channels)

    plain = encoder(levels)
    (plain * target).sum().backward()
    expected = gradients(encoder)
    encoder.zero_grad()
    ours = fused.encode(encoder, levels, torch.float32)
    (ours * target).sum().backward()

    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    assert_same_gradients(gradients(encoder), expected, 1e-4)


@pytest.mark.parametrize("hops", [1, 7])
def test_decoder_equals_the_plain_network(hops: int) -> None:
    torch.manual_seed(hops)
    decoder = Decoder(TINY)
    codes = torch.randint(0, 256, (2, hops * TINY.hop_samples))
    latents = torch.randn(2, hops, TINY.latent_channels, requires_grad=True)
    target = torch.randn(2, hops * TINY.hop_samples, 256)

    plain = decoder(codes, latents)
    (plain * target).sum().backward()
    expected = gradients(decoder)
    expected_latent, latents.grad = latents.grad, None
    decoder.zero_grad()
    ours = fused.decode(TINY, decoder, codes, latents)
    (ours * target).sum().backward()

    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(latents.grad, expected_latent, rtol=1e-3, atol=1e-3)
    assert_same_gradients(gradients(decoder), expected, 1e-4)


def test_bfloat16_stays_close_to_float32() -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(TINY), Decoder(TINY)
    codes = torch.randint(0, 256, (2, 7 * TINY.hop_samples))
    levels = torch.rand(2, 7 * TINY.hop_samples) * 2 - 1
    exact = decoder(codes, encoder(levels))
    rough = fused.decode(
        TINY, decoder, codes, fused.encode(encoder, levels, torch.bfloat16).bfloat16()
    )
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.05 * exact.std() + 0.05
