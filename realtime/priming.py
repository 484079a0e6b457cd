"""An incoming decoder made ready beside the one that plays: it reads what has just been heard.

A decoder that starts cold would begin with a transient of a receptive field's length. One that has
read the last receptive field of emitted codes, teacher-forced, holds in its queues exactly what it
would hold had it read the whole past.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

import numpy as np

from model.config import SILENCE, ModelConfig
from model.interface import Codes, Decoder, Latents
from realtime.priority import have_least

# Hops a helper thread may fall behind before its work is thrown away and begun again.
_SLACK_HOPS = 64
# Enough to spare a helper thread most of its turns at the interpreter's lock, few enough to notice
# soon that the work was called off.
_HOPS_AT_ONCE = 4


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
        self._is_to_hurry = False
        self._thread = threading.Thread(target=self._run, name="umt-primer", daemon=True)
        self._thread.start()

    def submit(self, job: PrimingJob) -> None:
        """Have ``job`` caught up; it rests again when that is done."""
        job.resting = False
        self._jobs.put(job)

    def hurry(self, wanted: bool) -> None:
        """From the next job on, come before all that is not real-time, or no longer.

        An ordinary thread that has to wait for others would make switches late, and the audio
        callback, too, if it waits with the interpreter's lock in its hand.
        """
        self._is_to_hurry = wanted

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread after the job at hand."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            have_least(self._is_to_hurry)
            try:
                job.catch_up()
            except BaseException as error:
                # Kept for the player, which raises it in the thread that is watched.
                job.failure = error
            job.resting = True
