"""The network's shape: frozen dataclasses, checked once, saved with the weights.

Three profiles are named here: ``paper`` (the published network), ``live`` (what a musician plays
through) and ``tiny`` (what tests run). Everything that follows from the chosen figures, such as
receptive field and delay, is a property, so no two places can disagree about it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from model.errors import ConfigError

SAMPLE_RATE = 16_000
LEVELS = 256
SILENCE = 128
"""mu-law code of a zero sample, and the code that precedes the first one."""


@dataclass(frozen=True)
class EncoderConfig:
    """The WaveNet-like encoder (paper, 3.1): ``blocks`` times dilations 1, 2, 4, ...

    A causal encoder reads the past alone; otherwise every kernel of 3 is centred, and the
    encoder must hear ``lookahead_samples`` of the future before it can speak of the present.
    """

    blocks: int
    layers_per_block: int
    channels: int
    causal: bool

    def __post_init__(self) -> None:
        _require_positive(self, "blocks", "layers_per_block")
        _require_multiple_of_16(self, "channels")

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of each residual layer, first to last."""
        return tuple(2**i for i in range(self.layers_per_block)) * self.blocks

    @property
    def receptive_field(self) -> int:
        """Input samples that one unpooled output depends on (kernel 3, and a front layer)."""
        return 1 + 2 + 2 * sum(self.dilations)

    @property
    def lookahead_samples(self) -> int:
        """Future samples that one unpooled output depends on."""
        return 0 if self.causal else 1 + sum(self.dilations)


@dataclass(frozen=True)
class DecoderConfig:
    """The WaveNet decoder (paper, 3.1): kernel 2, ``blocks`` times dilations 1, 2, 4, ..."""

    blocks: int
    layers_per_block: int
    residual_channels: int
    skip_channels: int
    head_channels: int

    def __post_init__(self) -> None:
        _require_positive(self, "blocks", "layers_per_block")
        _require_multiple_of_16(self, "residual_channels", "skip_channels", "head_channels")

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of each residual layer, first to last."""
        return tuple(2**i for i in range(self.layers_per_block)) * self.blocks

    @property
    def receptive_field(self) -> int:
        """Past samples that one output sample depends on."""
        return 1 + sum(self.dilations)


@dataclass(frozen=True)
class ModelConfig:
    """A whole network: one shared encoder, and the shape every domain's decoder has."""

    profile: str
    latent_channels: int
    hop_samples: int
    encoder: EncoderConfig
    decoder: DecoderConfig

    def __post_init__(self) -> None:
        _require_positive(self, "latent_channels", "hop_samples")
        if self.latent_channels % 8:
            raise ConfigError(
                f"latent_channels must be a multiple of 8, got {self.latent_channels}"
            )

    @property
    def hop_s(self) -> float:
        """Duration of one latent frame in seconds."""
        return self.hop_samples / SAMPLE_RATE

    @property
    def algorithmic_delay_samples(self) -> int:
        """Delay the network itself imposes at 16 kHz: encoder look-ahead plus one hop."""
        return self.encoder.lookahead_samples + self.hop_samples

    @property
    def receptive_field_hops(self) -> int:
        """Whole hops that cover the decoder's receptive field."""
        return -(-self.decoder.receptive_field // self.hop_samples)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping that ``from_dict`` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ModelConfig:
        """Rebuild a config from ``to_dict``. Raises ConfigError on missing or unknown fields."""
        try:
            rest = {k: v for k, v in fields.items() if k not in ("encoder", "decoder")}
            return cls(
                encoder=EncoderConfig(**fields["encoder"]),
                decoder=DecoderConfig(**fields["decoder"]),
                **rest,
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"not a network configuration: {error}") from error


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a positive whole number, got {value!r}")


def _require_multiple_of_16(config: object, *names: str) -> None:
    # The kernels work on whole vectors of 16 channels and have no remainder loops.
    _require_positive(config, *names)
    for name in names:
        value = getattr(config, name)
        if value % 16:
            raise ConfigError(f"{name} must be a multiple of 16, got {value}")


PROFILES: dict[str, ModelConfig] = {
    "paper": ModelConfig(
        profile="paper",
        latent_channels=64,
        hop_samples=800,
        encoder=EncoderConfig(blocks=3, layers_per_block=10, channels=128, causal=False),
        decoder=DecoderConfig(4, 10, residual_channels=128, skip_channels=128, head_channels=256),
    ),
    "live": ModelConfig(
        profile="live",
        latent_channels=16,
        hop_samples=160,
        encoder=EncoderConfig(blocks=2, layers_per_block=9, channels=64, causal=True),
        decoder=DecoderConfig(2, 10, residual_channels=64, skip_channels=64, head_channels=128),
    ),
    "tiny": ModelConfig(
        profile="tiny",
        latent_channels=8,
        hop_samples=80,
        encoder=EncoderConfig(blocks=1, layers_per_block=4, channels=16, causal=True),
        decoder=DecoderConfig(1, 4, residual_channels=16, skip_channels=16, head_channels=16),
    ),
}


def profile(name: str) -> ModelConfig:
    """The named profile. Raises ConfigError, listing the names, if there is none."""
    try:
        return PROFILES[name]
    except KeyError:
        raise ConfigError(f"no profile {name!r}; choose one of {', '.join(PROFILES)}") from None
