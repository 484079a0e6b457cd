"""An instrument made of one recording of one note, for sounds that no SoundFont has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from training.humanise import Played
from training.render import SYNTH_RATE, TAIL_S, Samples

FADE_S = 0.1
"""Over which the recording goes over into its beginning, where it has to last longer."""
ATTACK_S, RELEASE_S = 0.01, 0.15


def play_recording(played: Sequence[Played], recording: Path, pitch: float) -> Samples:
    """Every note of ``played`` by the recording, read faster or slower, in the room it has.

    recording: a sustained note of MIDI ``pitch``. Returns (time,) float32 at ``SYNTH_RATE``, not
    yet scaled to any loudness.
    """
    audio, rate = soundfile.read(recording, dtype="float32", always_2d=True)
    note = audio.mean(axis=1)
    sound = np.zeros(length_of(played), np.float32)
    for one in played:
        ratio = 2 ** ((one.pitch - pitch) / 12)
        held = _held(note, rate, (one.duration_s + RELEASE_S) * ratio)
        heard = soxr.resample(held, rate * ratio, SYNTH_RATE, quality="HQ")
        add(sound, one, heard, ATTACK_S, RELEASE_S)
    return sound


def length_of(played: Sequence[Played]) -> int:
    """Samples that hold a performance and what is heard after its last note."""
    return round((max(one.start_s + one.duration_s for one in played) + TAIL_S) * SYNTH_RATE)


def add(sound: Samples, one: Played, heard: Samples, attack_s: float, release_s: float) -> None:
    """Let a note be heard in ``sound``: as loud as struck, rising and dying away in time.

    heard: (time,) at ``SYNTH_RATE``, from its onset on; used until it has died away or ends.
    """
    start = round(one.start_s * SYNTH_RATE)
    time = np.arange(min(len(heard), len(sound) - start)) / SYNTH_RATE
    shape = np.clip(time / attack_s, 0.0, 1.0)
    shape *= np.clip(1.0 - (time - one.duration_s) / release_s, 0.0, 1.0)
    # As SoundFonts have it: 40 dB for each tenfold velocity.
    level = (one.velocity / 127) ** 2
    sound[start : start + len(time)] += (heard[: len(time)] * shape * level).astype(np.float32)


def _held(note: NDArray[np.float32], rate: int, seconds: float) -> NDArray[np.float32]:
    """The note for ``seconds`` or a little more: over and over, each time faded into the next."""
    wanted, fade = round(seconds * rate), round(FADE_S * rate)
    rise = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    whole = note
    while len(whole) < wanted:
        seam = whole[-fade:] * np.sqrt(1.0 - rise) + note[:fade] * np.sqrt(rise)
        whole = np.concatenate([whole[:-fade], seam, note[fade:]])
    return whole[:wanted]
