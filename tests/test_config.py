"""The profiles have the published figures, and a bad shape is refused with its value."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.config import PROFILES, DecoderConfig, EncoderConfig, ModelConfig, profile
from model.errors import ConfigError


def test_paper_profile_has_the_figures_of_the_paper() -> None:
    paper = profile("paper")
    assert paper.decoder.receptive_field == 4093  # Section 3.1.
    assert len(paper.encoder.dilations) == 30
    assert len(paper.decoder.dilations) == 40
    assert paper.hop_s == 0.05
    assert paper.latent_channels == 64


def test_declared_delays_follow_from_the_shape() -> None:
    assert profile("paper").encoder.lookahead_samples == 3 * 1023 + 1
    assert profile("paper").algorithmic_delay_samples == 3070 + 800
    assert profile("live").algorithmic_delay_samples == 160
    assert profile("live").receptive_field_hops == 13


@pytest.mark.parametrize("name", PROFILES)
def test_a_config_survives_json(name: str) -> None:
    import json

    config = profile(name)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="'huge'.*paper, live, tiny"):
        profile("huge")


@pytest.mark.parametrize("value", [0, -1, 24, 2.0])
def test_odd_widths_are_refused_with_the_value(value: int) -> None:
    with pytest.raises(ConfigError, match=str(value)):
        EncoderConfig(blocks=1, layers_per_block=2, channels=value, causal=True)
    with pytest.raises(ConfigError, match=str(value)):
        DecoderConfig(1, 2, residual_channels=16, skip_channels=value, head_channels=16)


def test_odd_latents_are_refused() -> None:
    with pytest.raises(ConfigError, match="12"):
        replace(profile("tiny"), latent_channels=12)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ConfigError, match="speed"):
        ModelConfig.from_dict(profile("tiny").to_dict() | {"speed": 1})
