"""A bundle with a smaller latent says the same as far as that many channels can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model.bundle import Bundle, Domain  # noqa: E402
from model.config import profile  # noqa: E402
from model.errors import ConfigError  # noqa: E402
from model.network import Decoder, Encoder  # noqa: E402
from model.weights import decoder_shapes, encoder_shapes, random_weights  # noqa: E402
from training.narrow import narrowed  # noqa: E402

WIDE = replace(profile("tiny"), latent_channels=16)


def wide_bundle(rank: int) -> Bundle:
    """Two domains that listen to only ``rank`` directions of sixteen channels."""
    rng = np.random.default_rng(3)
    directions = np.linalg.qr(rng.normal(size=(16, rank)))[0]
    decoders = {}
    for name in ("a", "b"):
        weights = random_weights(decoder_shapes(WIDE), rng)
        for key in [key for key in weights if key.endswith("condition.weight")]:
            weights[key] = (weights[key] @ directions @ directions.T).astype(np.float32)
        decoders[name] = weights
    encoder = random_weights(encoder_shapes(WIDE), rng)
    return Bundle(WIDE, (Domain("a"), Domain("b")), encoder, decoders)


@torch.no_grad()
def logits(bundle: Bundle, domain: str) -> torch.Tensor:
    encoder, decoder = Encoder(bundle.config), Decoder(bundle.config)
    for module, weights in ((encoder, bundle.encoder), (decoder, bundle.decoders[domain])):
        module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    random = torch.Generator().manual_seed(1)
    levels = torch.rand((1, 400), generator=random) * 2 - 1
    codes = torch.randint(0, 256, (1, 400), generator=random)
    result: torch.Tensor = decoder(codes, encoder(levels))
    return result


@pytest.mark.parametrize("domain", ["a", "b"])
@pytest.mark.parametrize(("rank", "channels"), [(16, 16), (8, 8), (5, 8)])
def test_what_decoders_listen_to_is_kept(domain: str, rank: int, channels: int) -> None:
    bundle = wide_bundle(rank)
    smaller = narrowed(bundle, channels)
    assert smaller.config.latent_channels == channels
    assert smaller.encoder["latent.weight"].shape == (channels, 16)
    torch.testing.assert_close(
        logits(smaller, domain), logits(bundle, domain), rtol=1e-4, atol=1e-4
    )


def test_what_cannot_be_kept_is_the_least() -> None:
    bundle = wide_bundle(16)

    def product(of: Bundle) -> np.ndarray:
        told = [w for d in of.decoders.values() for k, w in d.items() if "condition" in k]
        return np.concatenate(told) @ of.encoder["latent.weight"]

    lost = np.linalg.norm(product(bundle) - product(narrowed(bundle, 8)))
    strengths = np.linalg.svd(product(bundle), compute_uv=False)
    assert lost == pytest.approx(np.linalg.norm(strengths[8:]), rel=1e-4)
    assert lost > 0.1 * np.linalg.norm(product(bundle))


def test_a_latent_cannot_be_made_wider() -> None:
    with pytest.raises(ConfigError, match="16 channels can only be made smaller, got 24"):
        narrowed(wide_bundle(16), 24)
