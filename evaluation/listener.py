"""A listener that needs no ears: it takes for the original what sounds most like real music."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import librosa
import numpy as np
from numpy.typing import NDArray

from evaluation.lineup import Lineup
from evaluation.translation import SEGMENT_S
from model import mulaw
from model.config import SAMPLE_RATE
from model.errors import DataError

Samples = NDArray[np.float32]
_COEFFICIENTS = 20
_HEARD_OF_EACH = 3


class Listener:
    """Knows the timbre of every domain's training audio, and nothing of the lineups' sources.

    Of each lineup it marks the clip whose timbre is nearest to the mean of some domain, in units of
    how much that varies within the domain.
    """

    def __init__(self, training: Mapping[str, Sequence[Samples]]):
        """training: recordings (time,) float32 at 16 kHz by domain.

        Raises DataError for a domain without two stretches of 5 s.
        """
        self._means, self._spreads = [], []
        for name, recordings in training.items():
            timbres = [timbre(piece) for audio in recordings for piece in _stretches(audio)]
            if len(timbres) < 2:
                raise DataError(
                    f"a listener needs two stretches of {SEGMENT_S:g} s of training audio of "
                    f"{name} or more, got {len(timbres)}; prepare more recordings"
                )
            self._means.append(np.mean(timbres, axis=0))
            self._spreads.append(np.std(timbres, axis=0) + 1e-3)

    def strangeness(self, audio: Samples) -> float:
        """Distance to the nearest domain: about 1 for what it might play itself."""
        heard = timbre(audio)
        return min(
            float(np.sqrt(np.square((heard - mean) / spread).mean()))
            for mean, spread in zip(self._means, self._spreads, strict=True)
        )

    def answers(self, lineups: Sequence[Lineup]) -> dict[str, str]:
        """By lineup: the clip that sounds least strange."""
        return {
            lineup.name: min(lineup.clips, key=lambda clip: self.strangeness(clip.audio)).name
            for lineup in lineups
        }


def timbre(audio: Samples) -> NDArray[np.float64]:
    """(38,): mean of each MFCC of (time,) float32, and how much it moves.

    The mean alone takes translations for the more real: they are near the average of all music. The
    first coefficient, which is the level, is left out.
    """
    heard = mulaw.as_heard(audio).astype(np.float64)
    mfcc = librosa.feature.mfcc(y=heard, sr=SAMPLE_RATE, n_mfcc=_COEFFICIENTS, n_mels=40)[1:]
    return np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)])


def _stretches(audio: Samples) -> list[Samples]:
    """Up to three stretches of 5 s, spread over a recording."""
    length = round(SEGMENT_S * SAMPLE_RATE)
    count = min(_HEARD_OF_EACH, len(audio) // length)
    starts = np.linspace(0, max(0, len(audio) - length), count).astype(int)
    return [audio[start : start + length] for start in starts]
