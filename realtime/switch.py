"""Playing one domain, another, or two at once: priming a decoder, then equal-power mixing.

Two voices can sound: the domain that plays, and a second one that comes in. An angle says how far
in it is: the voices are mixed by its cosine and its sine, and a switch is over when it reaches a
right angle and the second voice becomes the first. A blend stops on the way.

All decoders are resident. The incoming one first reads what has just been heard
(``realtime.priming``), and the two crossfade from the same waveform.

What counts as heard of two voices is the mixture, encoded again as mu-law. The codes of either
decoder alone would splice two waveforms where a fade begins or ends, and a third decoder primed on
the splice would hear a click that no listener heard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import mulaw
from model.interface import Codes, Decoder, Latents
from realtime.partner import run_each
from realtime.priming import History, Primer, PrimingJob
from realtime.seed import Uniforms

_RIGHT_ANGLE = math.pi / 2.0

CROSSFADE_SAMPLES = 480
"""30 ms at the network's rate; rounded up to whole hops."""

# A helper thread that has not caught up after this long never will: it is slower than the music.
_PATIENCE_S = 1.0


@dataclass(frozen=True)
class Target:
    """Which domain is to sound, and how much of a second one with it."""

    domain: int
    other: int = 0
    share: float = 0.0
    """Of ``other``, 0 to 1."""


class DomainPlayer:
    """Turns latents into audio, hop by hop, in whichever domains are asked for."""

    def __init__(
        self,
        decoders: Sequence[Decoder],
        rest_states: Sequence[Any],
        silence: Latents,
        temperatures: Sequence[float],
        *,
        seed: int,
        domain: int,
        primer: Primer | None = None,
        threads: int = 1,
        joins: Mapping[int, bool] | None = None,
        played: int = 0,
    ):
        """Start in ``domain`` at the warm rest state; ``rest_states`` are copied, not changed.

        temperatures: each domain's own, from the bundle.
        primer: the helper thread that primes incoming decoders. Without one it is done on the
        spot, and a switch begins at the very hop that asks for it: a run is then repeatable.
        threads: with two, the decoders of two voices play beside one another.
        joins: without a primer, at which hops a second voice came in when this was played before,
        and whether in a hurry; it then does so at none but these.
        played: hops that have been played before the first.
        """
        config = decoders[0].config
        self.config = config
        self.hop = 0
        """Place in the run: which uniforms come next."""
        self.played = played
        """Hops since the beginning, skipped ones included, whatever the seed."""
        self.domain = domain
        """The domain sounding now; the outgoing one during a switch."""
        self.last_switch_hops = 0
        """Hops from the request of the latest complete switch to its end, both included."""
        self.switches = 0
        self.on_join: Callable[[int, bool], None] | None = None
        """Told at which hop a second voice comes in, and whether in a hurry."""
        self._decoders = decoders
        self._temperatures = temperatures
        self._state = rest_states[domain].copy()
        self._history = History(config, silence)
        self._uniforms = Uniforms(seed, config.hop_samples)
        self._primer = primer
        self._joins = joins
        self._job: PrimingJob | None = None
        self._second: PrimingJob | None = None
        self._angle = 0.0
        self._hops_waited = 0
        self._asked_for, self._asked_at = domain, played
        self._patience_hops = ceil(_PATIENCE_S / config.hop_s)
        self.fade_hops = ceil(CROSSFADE_SAMPLES / config.hop_samples)
        # Decoders that sample in two threads themselves are done sooner one after the other.
        shared = any(getattr(decoder, "threads", 1) > 1 for decoder in decoders)
        self._threads = 1 if shared else threads
        self._drawn = np.empty((2, config.hop_samples), np.float32)
        self._audio = np.empty(config.hop_samples, np.float32)
        self._second_audio = np.empty(config.hop_samples, np.float32)
        self._place = (np.arange(config.hop_samples) + 0.5) / config.hop_samples

    def play(self, latent: Latents, target: Target, temperature: float) -> NDArray[np.float32]:
        """Generate one hop, moving towards ``target`` if something else is sounding.

        latent: (1, latent_channels). temperature: over each domain's own. Returns (hop_samples,)
        float32 in about [-1.42, 1.42] (two equal signals add up in a mixture), valid until the
        next call.
        Raises whatever priming raised on the helper thread.
        """
        if target.domain != self._asked_for:
            self._asked_for, self._asked_at = target.domain, self.played
        wanted, angle = self._second_voice(target)
        self._follow(wanted)
        if self._second is None:
            codes = self._generate(self.domain, self._state, latent, temperature, self._audio)
        else:
            aim = angle if self._second.domain == wanted else 0.0
            codes = self._mixture(self._second, latent, temperature, aim)
            self._settle(self._second, target, aim)
        self._history.append(latent, codes)
        if self._job is not None:
            self._job.give(latent, codes)
        self.hop += 1
        self.played += 1
        return self._audio

    def skip(self, hops: int) -> None:
        """Move on in the run without playing: the uniforms of ``hops`` hops are never used."""
        self.hop += hops
        self.played += hops

    def seed(self, seed: int) -> None:
        """Sample from here on as a run with this seed samples from its beginning."""
        self._uniforms = Uniforms(seed, self.config.hop_samples)
        self.hop = 0

    def abandon(self) -> None:
        """Call off any priming under way; the player is not used again."""
        if self._job is not None:
            self._job.cancelled = True

    def _second_voice(self, target: Target) -> tuple[int | None, float]:
        """The domain that a second voice should have, and the angle it should come to."""
        if target.domain != self.domain:
            return target.domain, _RIGHT_ANGLE
        if target.share > 0.0 and target.other != self.domain:
            return target.other, target.share * _RIGHT_ANGLE
        return None, 0.0

    def _generate(
        self,
        domain: int,
        state: Any,
        latent: Latents,
        temperature: float,
        out: NDArray[np.float32],
        place: int = 0,
    ) -> Codes:
        uniforms = self._uniforms.fill(domain, self.hop, self._drawn[place])
        warmth = temperature * self._temperatures[domain]
        codes = self._decoders[domain].generate(latent, uniforms, state, warmth)
        # mode="clip" writes straight into out; codes are never out of range.
        np.take(mulaw.DECODE_TABLE, codes, out=out, mode="clip")
        return codes

    def _mixture(
        self, second: PrimingJob, latent: Latents, temperature: float, aim: float
    ) -> Codes:
        """Both voices in ``_audio``, the angle moved nearer to ``aim``; as codes, too."""
        given = latent, temperature
        playing = (
            lambda: self._generate(self.domain, self._state, *given, self._audio),
            lambda: self._generate(second.domain, second.state, *given, self._second_audio, 1),
        )
        run_each(playing, self._threads)
        step = _RIGHT_ANGLE / self.fade_hops
        before, left = self._angle, aim - self._angle
        # Nearly there is there: a step more would be one for a rounding error.
        self._angle = aim if abs(left) < 1.001 * step else before + math.copysign(step, left)
        angle = before + (self._angle - before) * self._place
        np.multiply(self._audio, np.cos(angle), out=self._audio, casting="same_kind")
        np.multiply(self._second_audio, np.sin(angle), out=self._second_audio, casting="same_kind")
        np.add(self._audio, self._second_audio, out=self._audio)
        return mulaw.encode(self._audio)

    def _settle(self, second: PrimingJob, target: Target, aim: float) -> None:
        """Once the angle has come to its end: a switch is over, or the second voice has gone."""
        if self._angle != aim:
            return
        if second.domain == target.domain:
            self.domain, self._state = second.domain, second.state
            self._second, self._angle = None, 0.0
            self.last_switch_hops = self.played - self._asked_at + 1
            self.switches += 1
        elif aim == 0.0:
            self._second = None

    def _follow(self, wanted: int | None) -> None:
        """Have the second voice that is wanted, as soon as it is primed and there is room."""
        if self._second is not None and self._second.domain == wanted:
            wanted = None
        if self._job is not None and self._job.domain != wanted:
            self.abandon()
            self._job = None
        if wanted is None:
            return
        if self._primer is None:
            if self._second is None and self._may_join:
                hurried = self._joins is not None and self._joins[self.played]
                self._second = self._read(wanted, 1 if hurried else self._history.hops)
            return
        if self._job is None:
            self._hops_waited = 0
            self._job = self._begin(wanted, self._primer)
        if self._second is None and (job := self._ready(self._job, self._primer)) is not None:
            self._second, self._job = job, None

    @property
    def _may_join(self) -> bool:
        return self._joins is None or self.played in self._joins

    def _ready(self, job: PrimingJob, primer: Primer) -> PrimingJob | None:
        """The decoder that has read all there is, once that is so."""
        primed = self._primed(job, primer)
        if not primed and self._hops_waited < self._patience_hops:
            self._hops_waited += 1
            return None
        if self.on_join is not None:
            self.on_join(self.played, not primed)
        if primed:
            return job
        # Not ``job`` alone: one that was full has just been begun again. The domain then comes in
        # with a transient under its fade, which beats not coming in at all.
        self.abandon()
        return self._read(job.domain, 1)

    def _read(self, domain: int, hops: int) -> PrimingJob:
        """A job that has read the last hops, done at once."""
        job = PrimingJob(domain, self._decoders[domain], self._history, hops)
        job.catch_up()
        return job

    def _begin(self, domain: int, primer: Primer) -> PrimingJob:
        history = self._history
        job = PrimingJob(domain, self._decoders[domain], history, history.hops)
        primer.submit(job)
        return job

    def _primed(self, job: PrimingJob, primer: Primer) -> bool:
        """Whether ``job`` has read all there is, with the player reading one last hop itself."""
        if job.failure is not None:
            raise job.failure
        if not job.resting or job.hops_left > 1:
            if job.full:
                self.abandon()
                self._job = self._begin(job.domain, primer)
            elif job.resting:
                primer.submit(job)
            return False
        job.catch_up()
        return True
