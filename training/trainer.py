"""One training step (paper, 3.3 and 4), and the state that makes a run resumable."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.batches import Batch
from training.content import content, semitones
from training.losses import autoencoding, classification, evenness, reconstruction
from training.networks import MovingAverage, Networks, accent_of, without_accent
from training.optimiser import Taught
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
    latent_rms: float
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
        decoders = [self.networks.decoder(i) for i in range(len(settings.domains))]
        if settings.shared_steps:
            for decoder in decoders[1:]:
                decoder.load_state_dict(decoders[0].state_dict())
        self.average = MovingAverage(self.networks, settings.average_decay)
        self._confusion = Taught(self.networks.confusion.parameters())
        self._content = Taught(self.networks.content.parameters())
        self._encoder = Taught(
            self.networks.encoder.parameters(), matrices_of(self.networks.encoder)
        )
        self._decoders = [Taught(without_accent(one), matrices_of(one)) for one in decoders]
        self._accents = [Taught(accent_of(one)) for one in decoders]

    def train(self, batch: Batch) -> StepReport:
        """First the confusion network, then encoder and decoder against its new state."""
        if self.step == self.settings.shared_steps > 0:
            self._part_ways()
        if self.step == self.settings.encoder_steps > 0:
            self.networks.encoder.load_state_dict(self.average.networks.encoder.state_dict())
        if self.settings.is_encoder_frozen(self.step):
            measured = self._teach_decoder(batch)
        else:
            measured = self._teach(batch)
        self.step += 1
        return StepReport(
            step=self.step,
            domain=self.settings.domains[self.settings.domain_of(self.step - 1)],
            learning_rate=self.settings.learning_rate_at(self.step - 1),
            **{name: float(self.world.mean(value.detach())) for name, value in measured.items()},
        )

    def _teach(self, batch: Batch) -> dict[str, Tensor]:
        """A step of every network; returns what it measured, by its name in the report."""
        domain = self.settings.domain_of(self.step)
        latents = self.networks.encode(batch.levels)
        scores = self.networks.confusion(latents.detach())
        guess_loss = classification(scores, domain)
        self._descend(guess_loss, [self._confusion])

        loss = self._reconstruction(batch, latents)
        told = evenness(self.networks.confusion(latents))
        total = autoencoding(loss, told, self.settings.confusion_weight)
        taught = [self._encoder, *self._speaking()]
        content_loss = torch.zeros(())
        if self.settings.content_weight:
            content_loss = content(
                self.networks.content(latents),
                semitones(batch.codes, self.settings.config.hop_samples),
            )
            total = total + self.settings.content_weight * content_loss
            taught.append(self._content)
        norm = self._descend(total, taught)
        self._average()
        return {
            "loss": loss,
            "content_loss": content_loss,
            "confusion_loss": guess_loss,
            "confusion_accuracy": (scores.argmax(-1) == domain).float().mean(),
            "latent_rms": _rms(latents),
            "gradient_norm": norm,
        }

    def _teach_decoder(self, batch: Batch) -> dict[str, Tensor]:
        """A step of one decoder alone, the encoder being as good as it will get."""
        with torch.no_grad():
            latents = self.networks.encode(batch.levels)
        loss = self._reconstruction(batch, latents)
        norm = self._descend(loss, self._speaking())
        self._average()
        none = torch.zeros(())
        return {
            "loss": loss,
            "content_loss": none,
            "confusion_loss": none,
            "confusion_accuracy": none,
            "latent_rms": _rms(latents),
            "gradient_norm": norm,
        }

    def _reconstruction(self, batch: Batch, latents: Tensor) -> Tensor:
        decoder = self.settings.decoder_of(self.step)
        accent = self.settings.domain_of(self.step)
        logits = self.networks.decode(decoder, batch.past, latents, accent)
        return reconstruction(logits, batch.codes)

    def _speaking(self) -> list[Taught]:
        """The decoder and the accent that this step trains."""
        return [
            self._decoders[self.settings.decoder_of(self.step)],
            self._accents[self.settings.domain_of(self.step)],
        ]

    def _average(self) -> None:
        decoder, accent = self.settings.decoder_of(self.step), self.settings.domain_of(self.step)
        is_shared = self.step < self.settings.shared_steps
        self.average.update(self.networks, decoder, accent, self.step, is_shared)

    @torch.no_grad()
    def held_out(self, domain: int, batch: Batch) -> float:
        """Nats per sample of the averaged weights on a batch of one domain."""
        networks = self.average.networks
        decoder = 0 if self.settings.is_shared_after(self.step) else domain
        latents = networks.encode(batch.levels)
        logits = networks.decode(decoder, batch.codes, latents, accent=domain)
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

    def begin_alike(self) -> None:
        """Give every process the leading one's weights, as the last thing before the first step.

        Machines of different kinds draw and factor numbers that differ in their last bits, or in
        their signs, and only gradients are averaged afterwards.
        """
        for networks in (self.networks, self.average.networks):
            self.world.send_from_leader(networks.state_dict().values())

    def start_from(self, settings: TrainSettings, state: dict[str, Any]) -> None:
        """Begin with the averaged weights of another run instead of random ones.

        settings, state: of that run. A domain it knew keeps its decoder, each other gets its first,
        and with ``fresh_decoders`` none gets any.
        The confusion network and the optimisers begin anew. Raises TrainingError if the networks
        are not of one shape.
        """
        self.settings.require_network(settings.config, "that run")
        theirs, latest = Networks(settings), Networks(settings)
        theirs.load_state_dict(state["average"])
        latest.load_state_dict(state["networks"])
        shared = settings.is_shared_after(state["step"])
        for ours in (self.networks, self.average.networks):
            ours.encoder.load_state_dict(theirs.encoder.state_dict())
            # Teachers are not averaged.
            ours.content.load_state_dict(latest.content.state_dict())
            if self.settings.fresh_decoders:
                continue
            for name, decoder in zip(self.settings.domains, ours.decoders, strict=True):
                source = settings.domains.index(name) if name in settings.domains else 0
                voice = theirs.voice(0 if shared else source, source)
                decoder.load_state_dict(voice.state_dict())

    def _optimisers(self) -> list[Taught]:
        return [self._confusion, self._content, self._encoder, *self._decoders, *self._accents]

    def _descend(self, loss: Tensor, taught: list[Taught]) -> Tensor:
        """One step of the given groups alone; returns the norm before clipping."""
        parameters = [p for group in taught for p in group.parameters]
        # Only these get gradients: loss (1) must not reach the confusion network's weights.
        loss.backward(inputs=parameters)
        self.world.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip)
        for group in taught:
            group.step(self.settings.learning_rate_at(self.step))
        return norm

    def _part_ways(self) -> None:
        """Give every domain the decoder that all have trained so far, its averages included."""
        moments = self._decoders[0].state_dict()
        for networks in (self.networks, self.average.networks):
            for i in range(1, len(self._decoders)):
                networks.decoder(i).load_state_dict(networks.voice(0, i).state_dict())
        for decoder in self._decoders[1:]:
            decoder.load_state_dict(deepcopy(moments))


def _rms(latents: Tensor) -> Tensor:
    return latents.detach().square().mean().sqrt()


def matrices_of(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a network that carry many channels to many, which Muon moves.

    Not what reads or writes codes or audio: their one side is no space of channels.
    """
    apart = ("embedding", "front", "logits")
    named = module.named_parameters()
    return [p for name, p in named if p.ndim > 1 and not any(part in name for part in apart)]
