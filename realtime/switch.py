"""Playing one domain after another: priming the incoming decoder, then an equal-power crossfade.

All decoders are resident. A decoder that starts cold would begin with a transient of a receptive
field's length, so the incoming one first reads what has just been heard: a teacher-forced pass
over the last receptive field of emitted codes. Its queues then hold exactly what they would hold
had it read the whole past, and the two decoders crossfade from the same waveform.

What counts as heard during a crossfade is the mixture, encoded again as mu-law. The codes of
either decoder alone would splice two waveforms where a fade begins or ends, and a third decoder
primed on the splice would hear a click that no listener heard.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from math import ceil
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import mulaw
from model.config import SILENCE, ModelConfig
from model.interface import Codes, Decoder, Latents
from realtime.partner import run_each
from realtime.seed import Uniforms

CROSSFADE_SAMPLES = 480
"""30 ms at the network's rate; rounded up to whole hops."""

# A helper thread that has not caught up after this long never will: it is slower than the music.
_PATIENCE_S = 1.0
# Hops a helper thread may fall behind before its work is thrown away and begun again.
_SLACK_HOPS = 64
# Enough to spare a helper thread most of its turns at the interpreter's lock, few enough to notice
# soon that the work was called off.
_HOPS_AT_ONCE = 4


class PrimingJob:
    """An incoming decoder reading the recent past, a few hops at a time.

    The player appends hops while a helper thread consumes them: one writer, one reader, and the
    count of hops is assigned after the hops themselves.
    """

    def __init__(self, domain: int, decoder: Decoder, history: History, hops: int):
        """hops: how many of the latest hops of ``history`` to read."""
        self.domain = domain
        self.state: Any = None
        self.cancelled = False
        self.resting = True
        """Whether no helper thread is at work on the job."""
        self.failure: BaseException | None = None
        self._decoder = decoder
        self._hop = history.hop_samples
        self._latents, self._codes = history.unrolled(_SLACK_HOPS)
        self._given = history.hops
        self._done = history.hops - hops

    @property
    def hops_left(self) -> int:
        """Hops given and not yet read."""
        return self._given - self._done

    @property
    def full(self) -> bool:
        """Whether no further hop can be given: the helper has fallen hopelessly behind."""
        return self._given == len(self._latents)

    def give(self, latent: Latents, codes: Codes) -> None:
        """Append the hop just played: latent (1, channels), codes (hop_samples,)."""
        at = self._given
        self._latents[at] = latent[0]
        self._codes[at * self._hop : (at + 1) * self._hop] = codes
        self._given = at + 1

    def catch_up(self) -> None:
        """Read every hop given so far; returns early if cancelled."""
        if self.state is None:
            self.state = self._decoder.initial_state()
        while self.hops_left and not self.cancelled:
            at = self._done
            end = min(self._given, at + _HOPS_AT_ONCE)
            codes = self._codes[at * self._hop : end * self._hop]
            self._decoder.prime(self._latents[at:end], codes, self.state)
            self._done = end


class Primer:
    """A helper thread that runs priming jobs beside the engine."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[PrimingJob | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="umt-primer", daemon=True)
        self._thread.start()

    def submit(self, job: PrimingJob) -> None:
        """Have ``job`` caught up; it rests again when that is done."""
        job.resting = False
        self._jobs.put(job)

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread after the job at hand."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job.catch_up()
            except BaseException as error:
                # Kept for the player, which raises it in the thread that is watched.
                job.failure = error
            job.resting = True


class History:
    """Latents and codes of the last receptive field, oldest overwritten first."""

    def __init__(self, config: ModelConfig, silence: Latents):
        """silence: (1, latent_channels), the latent that the past before the first hop had."""
        self.hops = config.receptive_field_hops
        self.hop_samples = config.hop_samples
        self._latents = np.repeat(silence.astype(np.float32), self.hops, axis=0)
        self._codes = np.full((self.hops, self.hop_samples), SILENCE, np.uint8)
        self._next = 0

    def append(self, latent: Latents, codes: Codes) -> None:
        """Add one hop: latent (1, channels), codes (hop_samples,)."""
        self._latents[self._next] = latent[0]
        self._codes[self._next] = codes
        self._next = (self._next + 1) % self.hops

    def unrolled(self, spare_hops: int) -> tuple[Latents, Codes]:
        """Copies in the order of time, with room for ``spare_hops`` more behind them."""
        total = self.hops + spare_hops
        latents = np.zeros((total, self._latents.shape[1]), np.float32)
        codes = np.zeros((total, self.hop_samples), np.uint8)
        recent = self.hops - self._next
        for target, ring in ((latents, self._latents), (codes, self._codes)):
            target[:recent] = ring[self._next :]
            target[recent : self.hops] = ring[: self._next]
        return latents, codes.reshape(-1)


class DomainPlayer:
    """Turns latents into audio, hop by hop, in whichever domain is asked for."""

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
    ):
        """Start in ``domain`` at the warm rest state; ``rest_states`` are copied, not changed.

        temperatures: each domain's own, from the bundle.
        primer: the helper thread that primes incoming decoders. Without one it is done on the
        spot, and a switch begins at the very hop that asks for it: a run is then repeatable.
        threads: with two, the decoders of a crossfade play beside one another.
        """
        config = decoders[0].config
        self.config = config
        self.hop = 0
        """Place in the run: which uniforms come next."""
        self.domain = domain
        """The domain sounding now; the outgoing one during a crossfade."""
        self.last_switch_hops = 0
        """Hops from the request of the latest complete switch to its end, both included."""
        self.switches = 0
        self._decoders = decoders
        self._temperatures = temperatures
        self._state = rest_states[domain].copy()
        self._history = History(config, silence)
        self._uniforms = Uniforms(seed, config.hop_samples)
        self._primer = primer
        self._job: PrimingJob | None = None
        self._incoming: PrimingJob | None = None
        self._hops_waited = 0
        self._patience_hops = ceil(_PATIENCE_S / config.hop_s)
        self._faded = 0
        self.fade_hops = ceil(CROSSFADE_SAMPLES / config.hop_samples)
        self._fade_out, self._fade_in = _equal_power(self.fade_hops, config.hop_samples)
        # Decoders that sample in two threads themselves are done sooner one after the other.
        shared = any(getattr(decoder, "threads", 1) > 1 for decoder in decoders)
        self._threads = 1 if shared else threads
        self._drawn = np.empty((2, config.hop_samples), np.float32)
        self._audio = np.empty(config.hop_samples, np.float32)
        self._audio_in = np.empty(config.hop_samples, np.float32)

    def play(self, latent: Latents, domain: int, temperature: float) -> NDArray[np.float32]:
        """Generate one hop, moving towards ``domain`` if that is not the one sounding.

        latent: (1, latent_channels). temperature: over each domain's own. Returns (hop_samples,)
        float32 in about [-1.42, 1.42] (two equal signals add up in a crossfade), valid until the
        next call.
        Raises whatever priming raised on the helper thread.
        """
        self._follow(domain)
        if self._incoming is None:
            codes = self._generate(self.domain, self._state, latent, temperature, self._audio)
        else:
            codes = self._crossfade(self._incoming, latent, temperature)
        self._history.append(latent, codes)
        if self._job is not None:
            self._job.give(latent, codes)
        self.hop += 1
        return self._audio

    def skip(self, hops: int) -> None:
        """Move on in the run without playing: the uniforms of ``hops`` hops are never used."""
        self.hop += hops

    def abandon(self) -> None:
        """Call off any priming under way; the player is not used again."""
        if self._job is not None:
            self._job.cancelled = True

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

    def _crossfade(self, incoming: PrimingJob, latent: Latents, temperature: float) -> Codes:
        given = latent, temperature
        playing = (
            lambda: self._generate(self.domain, self._state, *given, self._audio),
            lambda: self._generate(incoming.domain, incoming.state, *given, self._audio_in, 1),
        )
        run_each(playing, self._threads)
        hop = self.config.hop_samples
        part = slice(self._faded * hop, (self._faded + 1) * hop)
        np.multiply(self._audio, self._fade_out[part], out=self._audio)
        np.multiply(self._audio_in, self._fade_in[part], out=self._audio_in)
        np.add(self._audio, self._audio_in, out=self._audio)
        self._faded += 1
        if self._faded == self.fade_hops:
            self.domain, self._state = incoming.domain, incoming.state
            self._incoming = None
            self.last_switch_hops = self._hops_waited + self.fade_hops
            self.switches += 1
        return mulaw.encode(self._audio)

    def _follow(self, target: int) -> None:
        # A fade under way is finished first: reversing it would have to fade from a mixture.
        if self._incoming is not None:
            return
        if self._job is None or self._job.domain != target:
            self.abandon()
            self._job = None
            self._hops_waited = 0
            if target == self.domain:
                return
            self._begin(target)
        job = self._job
        if job is None:
            return
        if not self._primed(job):
            if self._hops_waited < self._patience_hops:
                self._hops_waited += 1
                return
            job = self._hurried(job)
        self._incoming, self._job, self._faded = job, None, 0

    def _begin(self, target: int) -> None:
        history = self._history
        self._job = PrimingJob(target, self._decoders[target], history, history.hops)
        if self._primer is not None:
            self._primer.submit(self._job)

    def _hurried(self, late: PrimingJob) -> PrimingJob:
        """In place of a job that comes too late, one that has read the last hop alone.

        The domain then comes in with a transient under its fade, which beats not coming in at all.
        """
        # Not ``late`` alone: one that was full has just been begun again.
        self.abandon()
        job = PrimingJob(late.domain, self._decoders[late.domain], self._history, 1)
        job.catch_up()
        return job

    def _primed(self, job: PrimingJob) -> bool:
        """Whether ``job`` has read all there is, with the player reading one last hop itself."""
        if job.failure is not None:
            raise job.failure
        if self._primer is not None and (not job.resting or job.hops_left > 1):
            if job.full:
                self.abandon()
                self._begin(job.domain)
            elif job.resting:
                self._primer.submit(job)
            return False
        job.catch_up()
        return True


def _equal_power(hops: int, hop_samples: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    place = (np.arange(hops * hop_samples) + 0.5) / (hops * hop_samples)
    angle = place * (np.pi / 2.0)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
