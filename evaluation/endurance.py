"""Does a long translation stay well? Loudness, clipping, and collapse into silence or noise.

A domain's own audio sets the standard: how loud it is, and how flat its spectrum ever gets. The
same figures of real test audio are the ceiling; white noise and silence are the known-bad rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch

from evaluation.loudness import integrated_loudness
from evaluation.translation import translate
from model import mulaw
from model.bundle import Bundle, Domain
from model.config import SAMPLE_RATE
from model.errors import DataError
from model.loudness import sounding_rms
from realtime.backends import Backend

Samples = NDArray[np.float32]
Track = NDArray[np.float64]

WINDOW_S = 1.0
SOUNDING_DB = -40.0
"""Level of a window, in dBFS, above which the input counts as sounding."""
SILENT_DB = -60.0
"""Level of a window below which a translation counts as silent."""
FLATNESS_PERCENTILE = 99.9
CLIPPED_LEVEL = 0.97
"""The outermost mu-law code leaves the limiter at 0.976, the next one at 0.952."""

LOUDNESS_LIMIT_LU = 3.0
DRIFT_LIMIT_DB = 3.0
CLIPPED_LIMIT = 1e-4
COLLAPSED_LIMIT = 0.01
_FFT = 1024
# Power density of noise at about -100 dBFS: what is quieter than that has no spectrum.
_FLOOR = 1e-14


@dataclass(frozen=True)
class Course:
    """A recording over time: one value for each whole second."""

    level_db: Track
    """(windows,) RMS in dBFS, -120 or more."""
    flatness: Track
    """(windows,) geometric over arithmetic mean of the power spectrum: 0 a tone, 1 white noise."""


@dataclass(frozen=True)
class Standard:
    """What a domain's own audio is like."""

    loudness_lufs: float
    """Of its training audio."""
    level_db: float
    """Of its training audio, as the bundle states it: RMS in dBFS, pauses not counted."""
    flatness: float
    """Exceeded by one in a thousand sounding windows of its training audio, as 8-bit mu-law."""


@dataclass(frozen=True)
class Health:
    """The figures of one recording, against a domain's standard."""

    seconds: float
    loudness_lu: float
    """Louder than the training audio by so much (ITU-R BS.1770)."""
    level_db: float
    """Louder than the manifest states by so much."""
    drift_db: float
    """How much louder, against the input, the last third is than the first."""
    clipped: float
    """Share of samples."""
    silent: float
    """Share of the windows whose input sounds that are below -60 dBFS."""
    noisy: float
    """Share of them that are not silent, and flatter than the standard."""
    flatness: float
    """Median over them."""

    @property
    def faults(self) -> tuple[str, ...]:
        """What is out of bounds, in words; nothing if the translation holds."""
        said = {
            f"{self.loudness_lu:+.1f} LU": abs(self.loudness_lu) > LOUDNESS_LIMIT_LU,
            f"drifts {self.drift_db:+.1f} dB": abs(self.drift_db) > DRIFT_LIMIT_DB,
            f"{self.clipped:.3%} clipped": self.clipped > CLIPPED_LIMIT,
            f"{self.silent:.1%} silent": self.silent > COLLAPSED_LIMIT,
            f"{self.noisy:.1%} noise": self.noisy > COLLAPSED_LIMIT,
        }
        return tuple(words for words, at_fault in said.items() if at_fault)

    @property
    def verdict(self) -> str:
        """``holds``, or the faults."""
        return ", ".join(self.faults) or "holds"


def long_take(recordings: Sequence[Samples], seconds: float) -> Samples:
    """(time,) float32: the recordings one after the other, from the first again if they end.

    Raises DataError if there is nothing to play.
    """
    wanted = round(seconds * SAMPLE_RATE)
    if not sum(map(len, recordings)):
        raise DataError("there is no test recording to play; run umt data prepare")
    chosen: list[Samples] = []
    for audio in cycle(recordings):
        chosen.append(audio[:wanted])
        wanted -= len(chosen[-1])
        if not wanted:
            return np.concatenate(chosen)
    raise AssertionError("a cycle does not end")


def course_of(audio: Samples) -> Course:
    """Level and flatness of each whole second. audio: (time,) float32 at 16 kHz."""
    window = round(WINDOW_S * SAMPLE_RATE)
    whole = audio[: len(audio) // window * window].reshape(-1, window).astype(np.float64)
    if not len(whole):
        return Course(np.zeros(0), np.zeros(0))
    level = 10.0 * np.log10(np.maximum(np.square(whole).mean(axis=1), 1e-12))
    # One spectrum for the whole second: within it, pauses weigh as little as they sound.
    _, power = welch(whole, SAMPLE_RATE, nperseg=_FFT, axis=-1)
    power = power[:, 1:] + _FLOOR
    return Course(level, np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1))


def standard_of(
    domain: Domain, training: Sequence[Samples], progress: Callable[[], None] = lambda: None
) -> Standard:
    """What ``training`` (recordings at 16 kHz) says of its domain.

    progress: called once, when it is done. Raises DataError if no second of it sounds.
    """
    courses = [course_of(mulaw.as_heard(audio)) for audio in training]
    flatness = np.concatenate([one.flatness[one.level_db > SOUNDING_DB] for one in courses])
    if not len(flatness):
        raise DataError(f"no second of the training audio of {domain.name} sounds; prepare it anew")
    loudness = integrated_loudness(training)
    progress()
    return Standard(
        loudness, domain.loudness_db, float(np.percentile(flatness, FLATNESS_PERCENTILE))
    )


def health_of(output: Samples, heard: Samples, standard: Standard) -> Health:
    """Examine a translation of ``heard``, in time with it; (time,) float32 at 16 kHz both.

    Raises DataError if no second of ``heard`` sounds.
    """
    given, got = course_of(heard), course_of(output)
    sounding = given.level_db > SOUNDING_DB
    if not sounding.any():
        raise DataError("no second of the test audio sounds; prepare other recordings")
    silent = got.level_db[sounding] < SILENT_DB
    noisy = ~silent & (got.flatness[sounding] > standard.flatness)
    gain = (got.level_db - given.level_db)[sounding]
    third = max(1, len(gain) // 3)
    level = sounding_rms(output)
    return Health(
        seconds=len(output) / SAMPLE_RATE,
        loudness_lu=integrated_loudness([output]) - standard.loudness_lufs,
        level_db=20.0 * float(np.log10(max(level, 1e-6))) - standard.level_db,
        drift_db=float(np.median(gain[-third:]) - np.median(gain[:third])),
        clipped=float((np.abs(output) > CLIPPED_LEVEL).mean()),
        silent=float(silent.mean()),
        noisy=float(noisy.mean()),
        flatness=float(np.median(got.flatness[sounding])),
    )


def white_noise(count: int, standard: Standard) -> Samples:
    """(count,) float32 of white noise as loud as the domain: a known-bad row."""
    noise = 0.05 * np.random.default_rng(0).standard_normal(count).astype(np.float32)
    gain_lu = standard.loudness_lufs - integrated_loudness([noise])
    return np.clip(noise * np.float32(10.0 ** (gain_lu / 20.0)), -1.0, 1.0)


@dataclass(frozen=True)
class Row:
    """One recording that was examined."""

    name: str
    """``translation``, ``real`` (ceiling), or ``white noise`` and ``silence`` (known to be bad)."""
    domain: str
    """Whose standard it is held to."""
    health: Health
    course: Course


def endure(
    bundle: Bundle,
    backend: Backend,
    target: str,
    heard: Samples,
    own: Samples,
    standard: Standard,
    seed: int,
    progress: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Translate all of ``heard`` in one go to ``target``, and examine what comes out.

    own: test audio of the target itself, for the ceiling. progress: called for each second.
    """
    takes = {
        "translation": (translate(bundle, backend, heard, target, seed, progress), heard),
        "real": (mulaw.as_heard(own), own),
        "white noise": (white_noise(len(own), standard), own),
        "silence": (np.zeros_like(own), own),
    }
    return [
        Row(name, target, health_of(output, given, standard), course_of(output))
        for name, (output, given) in takes.items()
    ]
