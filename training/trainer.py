"""One training step (paper, 3.3 and 4), and the state that makes a run resumable."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Adam, Optimizer

from model.errors import TrainingError
from training.batches import Batch
from training.content import content, semitones
from training.losses import autoencoding, classification, reconstruction
from training.networks import MovingAverage, Networks
from training.parallel import World
from training.settings import TrainSettings


@dataclass(frozen=True)
class StepReport:
    """What one step measured, averaged over the processes."""

    step: int
    domain: str
    loss: float
    """Reconstruction, nats per sample."""
    content_loss: float
    """Semitone guess, nats per hop; zero where it is not used."""
    confusion_loss: float
    confusion_accuracy: float
    gradient_norm: float
    learning_rate: float


class Trainer:
    """Networks, optimisers and moving averages, advanced one step at a time."""

    def __init__(self, settings: TrainSettings, world: World | None = None) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.world = world or World()
        self.step = 0
        self.networks = Networks(settings)
        self.average = MovingAverage(self.networks, settings.average_decay)
        self._confusion = _adam(self.networks.confusion)
        self._content = _adam(self.networks.content)
        self._encoder = _adam(self.networks.encoder)
        self._decoders = [_adam(decoder) for decoder in self.networks.decoders]

    def train(self, batch: Batch) -> StepReport:
        """First the confusion network, then encoder and decoder against its new state."""
        if self.step == self.settings.shared_steps > 0:
            self._part_ways()
        domain = self.settings.domain_of(self.step)
        decoder = self.settings.decoder_of(self.step)
        rate = self.settings.learning_rate_at(self.step)
        latents = self.networks.encode(batch.levels)

        scores = self.networks.confusion(latents.detach())
        guess_loss = classification(scores, domain)
        self._descend(guess_loss, [self._confusion], rate)

        logits = self.networks.decode(decoder, batch.past, latents)
        loss = reconstruction(logits, batch.codes)
        confused = classification(self.networks.confusion(latents), domain)
        total = autoencoding(loss, confused, self.settings.confusion_weight)
        taught = [self._encoder, self._decoders[decoder]]
        content_loss = torch.zeros(())
        if self.settings.content_weight:
            content_loss = content(
                self.networks.content(latents),
                semitones(batch.codes, self.settings.config.hop_samples),
            )
            total = total + self.settings.content_weight * content_loss
            taught.append(self._content)
        norm = self._descend(total, taught, rate)
        self.average.update(self.networks, decoder, self.step)

        self.step += 1
        return StepReport(
            step=self.step,
            domain=self.settings.domains[domain],
            loss=float(self.world.mean(loss.detach())),
            content_loss=float(self.world.mean(content_loss.detach())),
            confusion_loss=float(self.world.mean(guess_loss.detach())),
            confusion_accuracy=float(self.world.mean((scores.argmax(-1) == domain).float().mean())),
            gradient_norm=norm,
            learning_rate=rate,
        )

    @torch.no_grad()
    def held_out(self, domain: int, batch: Batch) -> float:
        """Nats per sample of the averaged weights on a batch of one domain."""
        networks = self.average.networks
        decoder = domain if self.step > self.settings.shared_steps else 0
        logits = networks.decode(decoder, batch.codes, networks.encode(batch.levels))
        return float(reconstruction(logits, batch.codes))

    def state(self) -> dict[str, Any]:
        """Everything that ``restore`` needs, as plain tensors and numbers."""
        return {
            "step": self.step,
            "networks": self.networks.state_dict(),
            "average": self.average.networks.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved ``state``."""
        self.step = state["step"]
        self.networks.load_state_dict(state["networks"])
        self.average.networks.load_state_dict(state["average"])
        for optimiser, saved in zip(self._optimisers(), state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)

    def start_from(self, settings: TrainSettings, state: dict[str, Any]) -> None:
        """Begin with the averaged weights of another run instead of random ones.

        settings, state: of that run. A domain it knew keeps its decoder; each other gets its first.
        The confusion network and the optimisers begin anew. Raises TrainingError if the networks
        are not of one shape.
        """
        if settings.config != self.settings.config:
            raise TrainingError(
                f"a {self.settings.config.profile} network cannot start from the "
                f"{settings.config.profile} network of that run; give the same --profile"
            )
        theirs, latest = Networks(settings), Networks(settings)
        theirs.load_state_dict(state["average"])
        latest.load_state_dict(state["networks"])
        apart = state["step"] > settings.shared_steps
        for ours in (self.networks, self.average.networks):
            ours.encoder.load_state_dict(theirs.encoder.state_dict())
            # Teachers are not averaged.
            ours.content.load_state_dict(latest.content.state_dict())
            for name, decoder in zip(self.settings.domains, ours.decoders, strict=True):
                known = apart and name in settings.domains
                source = settings.domains.index(name) if known else 0
                decoder.load_state_dict(theirs.decoders[source].state_dict())

    def _optimisers(self) -> list[Optimizer]:
        return [self._confusion, self._content, self._encoder, *self._decoders]

    def _descend(self, loss: torch.Tensor, optimisers: list[Adam], rate: float) -> float:
        """One Adam step of the given optimisers alone; returns the norm before clipping."""
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        parameters = [p for group in groups for p in group["params"]]
        # Only these get gradients: loss (1) must not reach the confusion network's weights.
        loss.backward(inputs=parameters)
        self.world.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip)
        for group in groups:
            group["lr"] = rate
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        return float(norm)

    def _part_ways(self) -> None:
        """Give every domain the decoder that all have trained so far, its averages included."""
        first = self.networks.decoders[0].state_dict()
        first_average = self.average.networks.decoders[0].state_dict()
        moments = self._decoders[0].state_dict()
        for i in range(1, len(self._decoders)):
            self.networks.decoders[i].load_state_dict(first)
            self.average.networks.decoders[i].load_state_dict(first_average)
            self._decoders[i].load_state_dict(deepcopy(moments))


def _adam(module: nn.Module) -> Adam:
    return Adam(module.parameters(), lr=1e-3, fused=True)
