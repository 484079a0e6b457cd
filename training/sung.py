"""Sung vowels from a source and a filter: a voice's pulses, shaped by the resonances of a throat.

No free recording of a singer was at hand. This has what the encoder has never heard of one: glides
into notes, vibrato, and resonances that stay where they are while the pitch moves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from training.humanise import Played
from training.render import SYNTH_RATE, Samples
from training.sampled import add, length_of

# Hz, means of 33 men (G. E. Peterson, H. L. Barney, "Control methods used in a study of the
# vowels", 1952, table II): father, met, see, law, boot.
VOWELS = (
    (730.0, 1090.0, 2440.0),
    (530.0, 1840.0, 2480.0),
    (270.0, 2290.0, 3010.0),
    (570.0, 840.0, 2410.0),
    (300.0, 870.0, 2240.0),
)
BANDWIDTHS_HZ = (80.0, 100.0, 140.0)
VIBRATO_HZ, VIBRATO_SEMITONES, VIBRATO_AFTER_S = 5.5, 0.35, 0.25
GLIDE_S, GLIDE_SEMITONES = 0.05, -0.7
"""How long, and from how far, the voice slides into a note."""
ATTACK_S, RELEASE_S = 0.05, 0.1
BREATH = 0.02
_HIGHEST_HZ = 7_500.0


def sing(played: Sequence[Played]) -> Samples:
    """Every note of ``played`` sung, each part taking the vowels in turn.

    Returns (time,) float32 at ``SYNTH_RATE``, not yet scaled to any loudness.
    """
    sound = np.zeros(length_of(played), np.float32)
    sung: dict[int, int] = {}
    for number, one in enumerate(played):
        place = sung.get(one.part, 0)
        sung[one.part] = place + 1
        heard = _note(one, VOWELS[(place + one.part) % len(VOWELS)], np.random.default_rng(number))
        add(sound, one, heard, ATTACK_S, RELEASE_S)
    return sound


def _note(one: Played, vowel: Sequence[float], rng: np.random.Generator) -> Samples:
    time = np.arange(round((one.duration_s + RELEASE_S) * SYNTH_RATE)) / SYNTH_RATE
    trembling = np.clip((time - VIBRATO_AFTER_S) / 0.2, 0.0, 1.0) * VIBRATO_SEMITONES
    pitch = one.pitch + trembling * np.sin(2 * np.pi * VIBRATO_HZ * time)
    pitch = pitch + GLIDE_SEMITONES * np.exp(-3 * time / GLIDE_S)
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    phase = 2 * np.pi * np.cumsum(hertz) / SYNTH_RATE
    # Harmonics of a pulse fall by 12 dB an octave, what leaves the mouth rises by 6.
    count = max(1, int(_HIGHEST_HZ / hertz.max()))
    pulses = sum((np.sin(k * phase) / k for k in range(1, count + 1)), np.zeros(len(time)))
    pulses += BREATH * rng.standard_normal(len(time))
    # A singer opens the mouth until the first resonance is not below the note.
    resonances = (max(vowel[0], float(hertz.max())), *vowel[1:])
    return np.asarray(_throat(pulses, resonances), dtype=np.float32)


def _throat(pulses: NDArray[np.float64], resonances: Sequence[float]) -> NDArray[np.float64]:
    """One resonator after another, as in a tube, each of gain 1 for what does not move."""
    for hertz, width in zip(resonances, BANDWIDTHS_HZ, strict=True):
        radius = np.exp(-np.pi * width / SYNTH_RATE)
        poles = [1.0, -2 * radius * np.cos(2 * np.pi * hertz / SYNTH_RATE), radius**2]
        pulses = scipy.signal.lfilter([sum(poles)], poles, pulses)
    return pulses
