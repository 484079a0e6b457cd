"""Which audio a step trains on. A batch is determined by the seed and the step alone.

So a resumed run sees what an unbroken one would have, and several processes each cut their own
rows of one batch without talking to each other. Who draws another random number here, or in another
order, raises ``training.checkpoint.VERSION``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import mulaw
from model.config import LEVELS, SAMPLE_RATE, SILENCE
from model.errors import DataError
from training.augment import modulate_pitch
from training.microphone import through_microphone
from training.settings import TrainSettings

Pieces = Sequence[NDArray[np.float32]]

GAIN_DB = (-9.0, 3.0)
"""Range of the level change given to input and target together: performers' levels differ."""
OFF_LEVEL_DB = (2.0, 6.0)
"""Range of how far, up or down, the level of a past is off that is off at all."""
REMNANTS_DB = (-15.0, 0.0)
"""Range of the gain of other music in a past that has any; it has a ``GAIN_DB`` of its own, too."""

_HELD_OUT_STREAM = 2**32


@dataclass(frozen=True)
class Batch:
    """Rows of one domain, each tensor (rows, time)."""

    levels: Tensor
    """float32: what the encoder hears."""
    codes: Tensor
    """int64: what the decoder is to say."""
    past: Tensor
    """int64: what the decoder is told that it said, ``codes`` or nearly."""


class Segments:
    """Segments of one domain's pieces, each start equally likely."""

    def __init__(self, domain: str, split: str, pieces: Pieces, samples: int) -> None:
        self.samples = samples
        self.pieces = [piece for piece in pieces if len(piece) >= samples]
        if not self.pieces:
            raise DataError(
                f"domain {domain} has no {split} recording of {samples / SAMPLE_RATE:.2f} s or "
                "more; add longer ones, or train on fewer --segment-hops"
            )
        starts = np.array([len(piece) - samples + 1 for piece in self.pieces])
        self.ends = np.cumsum(starts)

    def cut(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """One segment, level changed, as float32 in [-1, 1]."""
        at = int(rng.integers(self.ends[-1]))
        index = int(np.searchsorted(self.ends, at, side="right"))
        start = at - int(self.ends[index - 1] if index else 0)
        gain = 10 ** (rng.uniform(*GAIN_DB) / 20)
        piece = self.pieces[index][start : start + self.samples]
        return np.clip(piece * np.float32(gain), -1.0, 1.0)


class Batches:
    """Training batches by step, and a fixed held-out batch for each domain."""

    def __init__(
        self,
        settings: TrainSettings,
        train: Mapping[str, Pieces],
        test: Mapping[str, Pieces],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if settings.batch % world:
            raise DataError(
                f"a batch of {settings.batch} does not divide over {world} processes; "
                f"choose --batch a multiple of {world}"
            )
        self.settings = settings
        share = settings.batch // world
        self.rows = range(rank * share, (rank + 1) * share)
        samples = settings.segment_samples
        self.train = [Segments(n, "training", train[n], samples) for n in settings.domains]
        self.test = [Segments(n, "test", test[n], samples) for n in settings.domains]

    def at(self, step: int) -> Batch:
        """This process's rows of a step's batch, the input augmented (paper, 3.2).

        That goes on while the encoder learns. Decoders that learn alone are told the true pitch:
        they would only learn to distrust it.
        A share of the inputs passes a made-up microphone as well, and the past that the decoder is
        shown may be rough, off in level, mixed with other music, or silent at first. The paper has
        none of these.
        """
        segments = self.train[self.settings.domain_of(step)]
        heard, said, past = [], [], []
        for row in self.rows:
            rng = np.random.default_rng([self.settings.seed, step, row])
            clean = segments.cut(rng)
            encoder_learns = not self.settings.is_encoder_frozen(step)
            heard.append(modulate_pitch(clean, rng) if encoder_learns else clean)
            if rng.random() < self.settings.microphone_share:
                heard[-1] = through_microphone(heard[-1], rng)
            said.append(clean)
            past.append(self._past(clean, segments, rng))
        return _batch(heard, said, np.stack(past))

    def _past(
        self, said: NDArray[np.float32], others: Segments, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """What a decoder that makes mistakes might have said.

        The same but rougher; in a share of segments too loud or too soft, or with other music mixed
        in; or silence. Small or frequent errors would make the next sample unknowable and teach
        doubt; large and rare ones can be recognised and mended.
        """
        if rng.random() < self.settings.teacher_remnants:
            gain = 10 ** (rng.uniform(*REMNANTS_DB) / 20)
            said = np.clip(said + np.float32(gain) * others.cut(rng), -1.0, 1.0)
        if rng.random() < self.settings.teacher_off_level:
            error_db = rng.uniform(*OFF_LEVEL_DB) * rng.choice([-1.0, 1.0])
            said = np.clip(said * np.float32(10 ** (error_db / 20)), -1.0, 1.0)
        spread = self.settings.teacher_noise * rng.random()
        noise = np.rint(spread * rng.standard_normal(len(said), np.float32)).astype(np.int64)
        past = np.clip(mulaw.encode(said) + noise, 0, LEVELS - 1)
        if rng.random() < self.settings.teacher_silence:
            past[: rng.integers(self.settings.config.decoder.receptive_field)] = SILENCE
        return past

    def held_out(self, domain: int, rows: int) -> Batch:
        """A batch of the test split, the same whenever it is asked for, not augmented."""
        rng = np.random.default_rng([self.settings.seed, _HELD_OUT_STREAM, domain])
        clean = [self.test[domain].cut(rng) for _ in range(rows)]
        return _batch(clean, clean)


def _batch(inputs: Pieces, targets: Pieces, past: NDArray[np.int64] | None = None) -> Batch:
    levels = mulaw.companded(mulaw.encode(np.stack(inputs)))
    codes = mulaw.encode(np.stack(targets)).astype(np.int64)
    if past is None:
        past = codes
    return Batch(torch.from_numpy(levels), torch.from_numpy(codes), torch.from_numpy(past))
