"""Translating sound files: any rate, channels, length and format, in memory that stays flat.

The file's rate is changed by soxr, which may look ahead where the live resampler may not; between
the two conversions runs the same chain that plays live. The declared delay is cut off at the
start and the tail is flushed, so a translation is exactly as long as its source.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from bridge.outputs import require_place, shown
from bridge.soundfiles import SoundReader, is_sound_name, new_sound
from model.config import SAMPLE_RATE
from model.errors import AudioFileError
from realtime.chain import Chain

Audio = NDArray[np.float32]
Advance = Callable[[int, int], None]
"""Told the source frames translated so far and those expected in all."""


@dataclass(frozen=True)
class Translated:
    """One file done."""

    target: Path
    seconds: float
    elapsed_s: float

    @property
    def x_real_time(self) -> float:
        """Audio translated in the time it took, reading and writing included."""
        return self.seconds / max(self.elapsed_s, 1e-9)


class RateConverter:
    """A streaming conversion between a file's rate and the network's, aligned in time."""

    def __init__(self, source_rate: int, target_rate: int):
        """Set up soxr. Raises AudioFileError for rates that it cannot convert."""
        self._stream: soxr.ResampleStream | None = None
        if source_rate != target_rate:
            try:
                self._stream = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32")
            except (RuntimeError, ValueError) as error:
                raise AudioFileError(
                    f"cannot convert {source_rate} Hz to {target_rate} Hz: {error}"
                ) from error

    def process(self, block: Audio, last: bool = False) -> Audio:
        """(time,) float32 in; whatever is complete out, everything if ``last``."""
        if self._stream is None:
            return block
        converted: Audio = self._stream.resample_chunk(block, last=last)
        return converted


class Translation:
    """One sound on its way through a chain that has just been reset."""

    def __init__(self, chain: Chain, rate: int):
        """chain: at 16 kHz.  rate: of the blocks in and out, in Hz."""
        self._chain = chain
        self._down = RateConverter(rate, SAMPLE_RATE)
        self._up = RateConverter(SAMPLE_RATE, rate)
        self._lead_in = chain.delay_samples
        self._frames_in = 0
        self._frames_out = 0

    def process(self, block: Audio) -> Audio:
        """Translate (time,) float32; returns what is complete, from the sound's first frame on."""
        self._frames_in += len(block)
        heard = self._down.process(block)
        return self._counted(self._up.process(self._without_lead_in(self._chain.process(heard))))

    def finish(self) -> Audio:
        """The rest: in all, exactly as many frames come out as went in."""
        heard = self._down.process(np.zeros(0, np.float32), last=True)
        narrow = np.concatenate([self._chain.process(heard), self._chain.flush()])
        rest = self._up.process(self._without_lead_in(narrow), last=True)
        owed = self._frames_in - self._frames_out
        # Rounding at either conversion can leave a frame too many or too few.
        return np.pad(rest[:owed], (0, max(0, owed - len(rest))))

    def _counted(self, wide: Audio) -> Audio:
        wide = wide[: self._frames_in - self._frames_out]
        self._frames_out += len(wide)
        return wide

    def _without_lead_in(self, narrow: Audio) -> Audio:
        cut = min(self._lead_in, len(narrow))
        self._lead_in -= cut
        return narrow[cut:]


_COARSE = ("PCM_U8", "PCM_S8")
"""Encodings whose own noise would be heard, of a soft passage more than anything else."""


def require_translatable(source: Path, target: Path) -> None:
    """Raise the AudioFileError of ``translate_file`` where it can be told before translating."""
    with SoundReader(source) as reader:
        _first_and_rest(reader)
    require_place(target, AudioFileError)


def translate_file(
    source: Path, target: Path, chain: Chain, seed: int, advance: Advance
) -> Translated:
    """Translate one file under the chain's controls; the same seed gives the same sound.

    Raises AudioFileError, leaving no trace of ``target``, if it cannot be done.
    """
    started = time.perf_counter()
    with SoundReader(source) as reader:
        chain.reset(seed)
        blocks = _first_and_rest(reader)
        translation = Translation(chain, reader.rate)
        subtype = "PCM_16" if reader.subtype in _COARSE else reader.subtype
        with new_sound(target, reader.rate, subtype, reader.frames) as writer:
            done = 0
            for block in blocks:
                writer.write(translation.process(block))
                done += len(block)
                advance(done, max(reader.frames, done))
            writer.write(translation.finish())
    return Translated(target, done / reader.rate, time.perf_counter() - started)


def _first_and_rest(reader: SoundReader) -> Iterator[Audio]:
    """The reader's blocks, the first one read at once: an empty file makes no target."""
    blocks = reader.blocks()
    first = next(blocks, None)
    if first is None:
        raise AudioFileError(f"{shown(reader.path)} holds no sound: there is nothing to translate")

    def rest() -> Iterator[Audio]:
        yield first
        yield from blocks

    return rest()


def sound_files(folder: Path, outside: Path) -> list[Path]:
    """Files below ``folder`` whose names say that they are sound, in order of their paths.

    Hidden files are left out, and whatever lies in ``outside`` if that is a folder in ``folder``.
    Raises AudioFileError if there are none.
    """
    found = []
    within = outside.resolve().is_relative_to(folder.resolve())
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not is_sound_name(path) or not path.is_file():
            continue
        if not (within and path.resolve().is_relative_to(outside.resolve())):
            found.append(path)
    if not found:
        raise AudioFileError(f"no sound files in {shown(folder)}")
    return found


def is_same_file(one: Path, other: Path) -> bool:
    """Whether both paths lead to one file or folder, through links too."""
    try:
        return one.samefile(other)
    except OSError:
        return False
