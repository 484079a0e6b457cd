"""Plays the example performance: a tune written for this project, on a harmonica.

The result is ``bridge/example/performance.flac``, the sound that ``umt demo`` translates. The
harmonica is in none of the built-in domains. Needs fluidsynth and the MuseScore General SoundFont:

    python examples/performance.py bridge/example/performance.flac
"""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

from training.humanise import Manner, Played, perform
from training.render import SYNTH_RATE, Voice, at_loudness, synthesise, trimmed
from training.scores import SEMITONE_OF_STEP, Note
from training.sources import GENERAL_SOUNDFONT, find_sounds

HARMONICA = 22
QUARTERS_PER_MINUTE = 92.0
SEED = 7
PLAYER = Manner(rubato=0.05, jitter_s=0.008, articulation=(0.9, 1.0), swell=12.0, ritardando=0.35)

# Pitch and length in quarter notes; R is a rest. Four phrases of two measures, in E minor.
TUNE = """
B3 1/2  E4 1  G4 1/2  F#4 1/2  E4 1  B3 1/2
D4 3/2  E4 1/2  B3 3/2  R 1/2
C4 1/2  D4 1/2  E4 1  A4 3/2  G4 1/2
F#4 1  D4 1/2  E4 1/2  F#4 3/2  R 1/2
B4 1  A4 1/2  G4 1/2  A4 3/4  F#4 1/4  D4 1
G4 1  F#4 1/2  E4 1/2  C4 1  E4 1
D4 1/2  E4 1/2  F#4 1/2  A4 1/2  G4 3/2  F#4 1/2
E4 1  D#4 1/2  F#4 1/2  E4 3
"""


def tune() -> list[Note]:
    """The written notes."""
    words = TUNE.split()
    notes: list[Note] = []
    onset = Fraction(0)
    for name, length in zip(words[::2], words[1::2], strict=True):
        duration = Fraction(length)
        if name != "R":
            step = SEMITONE_OF_STEP[name[0]] + ("#" in name)
            notes.append(Note(onset, 12 * (int(name[-1]) + 1) + step, duration, part=0))
        onset += duration
    return notes


def performance() -> list[Played]:
    """The notes as they are played, always the same."""
    return perform(tune(), QUARTERS_PER_MINUTE, PLAYER, np.random.default_rng(SEED))


def main(target: Path) -> None:
    """Render the performance and write it to ``target``, 48 kHz mono."""
    soundfont = find_sounds(GENERAL_SOUNDFONT, Path("data/packages"))
    sound = synthesise(performance(), {0: Voice(HARMONICA)}, soundfont)
    sound = at_loudness(trimmed(sound, SYNTH_RATE), SYNTH_RATE)
    target.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(target, sound, SYNTH_RATE, subtype="PCM_16", format="FLAC")
    print(f"{target}: {len(sound) / SYNTH_RATE:.1f} s, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "performance.flac"))
