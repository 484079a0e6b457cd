"""A run's averaged weights as a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from model.bundle import Bundle, Domain, save_bundle
from model.weights import Weights
from training.trainer import Trainer


def to_bundle(trainer: Trainer, rows: Mapping[str, Domain], about: Mapping[str, Any]) -> Bundle:
    """The averaged networks as a bundle in memory.

    rows: what is said of each domain, by name. about: what the manifest says of the training.
    """
    networks = trainer.average.networks
    settings = trainer.settings
    shared = trainer.step <= settings.shared_steps
    return Bundle(
        config=settings.config,
        domains=tuple(rows[name] for name in settings.domains),
        encoder=_weights(networks.encoder),
        decoders={
            name: _weights(networks.voice(0 if shared else i, i))
            for i, name in enumerate(settings.domains)
        },
        about=about,
    )


def export_bundle(
    trainer: Trainer, rows: Mapping[str, Domain], about: Mapping[str, Any], folder: Path
) -> Path:
    """Write the averaged networks as a bundle folder."""
    save_bundle(to_bundle(trainer, rows, about), folder)
    return folder


def _weights(module: nn.Module) -> Weights:
    return {
        name: np.ascontiguousarray(value.detach().numpy(), dtype=np.float32)
        for name, value in module.state_dict().items()
    }
