"""A run's averaged weights as a bundle, and a bundle's weights as a run's first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model.bundle import Bundle, Domain, save_bundle
from model.weights import Weights
from training.narrow import narrowed
from training.trainer import Trainer


def to_bundle(trainer: Trainer, rows: Mapping[str, Domain], about: Mapping[str, Any]) -> Bundle:
    """The averaged networks as a bundle in memory.

    rows: what is said of each domain, by name. about: what the manifest says of the training.
    """
    networks = trainer.average.networks
    settings = trainer.settings
    shared = settings.is_shared_after(trainer.step)
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


def begin_with(bundle: Bundle, trainer: Trainer) -> None:
    """Give a new run the weights of a bundle: those of the encoder and, by name, of the decoders.

    A domain that the bundle does not have gets its first decoder; with ``fresh_decoders`` none
    gets any. A latent of more channels than the run's is narrowed. Raises TrainingError if the
    networks are otherwise not of one shape.
    """
    settings = trainer.settings
    if settings.config.latent_channels < bundle.config.latent_channels:
        bundle = narrowed(bundle, settings.config.latent_channels)
    settings.require_network(bundle.config, "that bundle")
    first = next(iter(bundle.decoders.values()))
    for networks in (trainer.networks, trainer.average.networks):
        _load(networks.encoder, bundle.encoder)
        if settings.fresh_decoders:
            continue
        for i, name in enumerate(settings.domains):
            _load(networks.decoder(i), bundle.decoders.get(name, first))


def _load(module: nn.Module, weights: Weights) -> None:
    module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})


def _weights(module: nn.Module) -> Weights:
    return {
        name: np.ascontiguousarray(value.detach().numpy(), dtype=np.float32)
        for name, value in module.state_dict().items()
    }
