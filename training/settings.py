"""What a training run is: one frozen dataclass, saved in every checkpoint and bundle."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from model.config import ModelConfig, profile
from model.errors import ConfigError, TrainingError

_SHARES = ("microphone_share", "teacher_off_level", "teacher_remnants", "teacher_silence")
TEACHING = ("teacher_noise", *_SHARES)
"""What prepares networks for the stage: a domain that is added is taught as its bundle was."""


@dataclass(frozen=True)
class TrainSettings:
    """A training run. The defaults suit hours on a few CPU cores."""

    config: ModelConfig = field(default_factory=lambda: profile("live"))
    domains: tuple[str, ...] = ()
    seed: int = 0
    steps: int = 20_000
    """Length of the learning-rate schedule; a run may stop and resume anywhere on it."""
    batch: int = 4
    """Segments in a batch, over all processes; all come from one domain (paper, 4)."""
    segment_hops: int = 40
    learning_rate: float = 1e-3
    cooldown: float = 0.4
    """Share of the steps, at the end, over which the learning rate falls to zero."""
    confusion_weight: float = 1.0
    """Lambda of loss (1)."""
    content_weight: float = 0.5
    """Weight of the semitone guess, a teacher that the paper does not have (training.content)."""
    microphone_share: float = 0.3
    """Share of segments whose input passes a made-up microphone (training.microphone)."""
    teacher_noise: float = 3.0
    """Largest standard deviation, in mu-law codes, of the noise on the past a decoder is shown."""
    teacher_off_level: float = 0.1
    """Share of segments whose past is much louder or softer than what is to be said."""
    teacher_remnants: float = 0.2
    """Share of segments whose past has remnants of other music in it."""
    teacher_silence: float = 0.15
    """Share of segments whose past begins with silence, up to a receptive field of it."""
    started_from: str = ""
    """What the first weights learned from, if they were another run's or a bundle's."""
    fresh_decoders: bool = False
    """Whether of the weights it begins with, if any, only the encoder's are taken."""
    given_encoder: bool = False
    """Whether the encoder is a finished one, that stays as it is from the first step."""
    shared_steps: int = 0
    """Steps in which all domains train one decoder, but for its accent (training.networks)."""
    encoder_steps: int = 0
    """Steps after which the encoder stays as it is and decoders alone learn; 0 for never."""
    gradient_clip: float = 1.0
    average_decay: float = 0.999
    """Decay of the moving average of the weights: what is evaluated and shipped."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "segment_hops"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("shared_steps", "encoder_steps"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("confusion_weight", "content_weight", "teacher_noise"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in _SHARES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("cooldown", "average_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("learning_rate", "gradient_clip"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if len(set(self.domains)) != len(self.domains):
            raise ConfigError(f"each domain may be named once, got {', '.join(self.domains)}")

    def require_network(self, config: ModelConfig, owner: str) -> None:
        """Raise TrainingError unless this run can begin with weights of a ``config`` network."""
        if config != self.config:
            raise TrainingError(
                f"a {self.config.profile} network cannot start from the {config.profile} network "
                f"of {owner}; give the same --profile and --latent-channels"
            )

    @property
    def segment_samples(self) -> int:
        """Length of one training segment at 16 kHz."""
        return self.segment_hops * self.config.hop_samples

    def domain_of(self, step: int) -> int:
        """Index of the domain that a step's batch comes from: they take turns."""
        return step % len(self.domains)

    def decoder_of(self, step: int) -> int:
        """Index of the decoder a step trains: the first while it is shared."""
        return 0 if step < self.shared_steps else self.domain_of(step)

    def is_shared_after(self, steps: int) -> bool:
        """Whether after so many steps there is one decoder for all domains, but for its accent."""
        return 0 < self.shared_steps >= steps

    def is_encoder_frozen(self, step: int) -> bool:
        """Whether a step leaves the encoder as it is."""
        return self.given_encoder or 0 < self.encoder_steps <= step

    def learning_rate_at(self, step: int) -> float:
        """A short warm-up, a plateau, then a straight line to zero at ``steps``."""
        warm = min(1.0, (step + 1) / 100)
        left = max(0.0, 1.0 - step / self.steps)
        return self.learning_rate * warm * min(1.0, left / max(self.cooldown, 1e-9))
