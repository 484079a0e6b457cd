"""A user's own recordings as a domain: any format, rate and channel count that soundfile reads.

Whole files go to training or to test, drawn by the seed; a single file is cut in time, with a gap
between the two so that no sound is heard on both sides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from model.errors import DataError
from training.progress import Report, Step
from training.render import SAMPLE_RATE, SILENCE, Samples

AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"}
    | {".aifc", ".au", ".snd", ".caf", ".m4a", ".aac", ".wma"}
)
SHORTEST_S = 1.0
SHORTEST_SINGLE_S = 20.0
GAP_S = 2.0
TEST_SHARE = 0.1
BLOCK_FRAMES = 1 << 18


@dataclass(frozen=True)
class Piece:
    """A stretch of one file, in frames at the file's own rate, and the split it belongs to."""

    path: Path
    split: str
    start: int
    stop: int


@dataclass(frozen=True)
class _Candidate:
    path: Path
    frames: int
    rate: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def scan(place: Path, seed: int, report: Report) -> tuple[list[Piece], list[str]]:
    """Share out the usable recordings of a folder, or a single one; warn of each unusable file.

    Every file is decoded once to the end, so what is shared out can be used. Raises DataError if
    there is not enough at ``place`` to fill both splits.
    """
    if not place.exists():
        raise DataError(f"{place} does not exist; give --wav-dir DOMAIN=FOLDER")
    found: list[_Candidate] = []
    warnings: list[str] = []
    paths = [place] if place.is_file() else _audio_files(place)
    for count, path in enumerate(paths):
        report(Step("check", count, len(paths), path.name))
        try:
            found.append(_candidate(path))
        except DataError as error:
            warnings.append(str(error))
    report(Step("check", len(paths), len(paths), f"{len(found)} usable"))
    if not found:
        reason = f" ({warnings[0]})" if warnings else ""
        raise DataError(
            f"{place} holds no usable recording{reason}; give a folder of WAV or FLAC files"
        )
    return (_cut(found[0]) if len(found) == 1 else _shared_out(found, seed)), warnings


def _audio_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES and path.name[0] != "." and path.is_file()
    )


def _candidate(path: Path) -> _Candidate:
    frames, peak = 0, 0.0
    try:
        with soundfile.SoundFile(path) as file:
            promised, rate = file.frames, file.samplerate
            for block in _mono_blocks(file, promised):
                frames += len(block)
                # fmax would pass over values that are not numbers.
                peak = float(np.maximum(peak, np.abs(block).max()))
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(
            f"{path} cannot be read ({_plain(error)}); convert it to WAV or FLAC"
        ) from error
    if not np.isfinite(peak):
        raise DataError(f"{path} holds values that are not numbers; convert it again")
    # Headers of compressed files may promise a little more than there is.
    if promised - frames > rate:
        raise DataError(f"{path} ends {(promised - frames) / rate:.1f} s early; convert it again")
    if frames < SHORTEST_S * rate:
        raise DataError(f"{path} was left out, it is shorter than {SHORTEST_S:g} s")
    if peak < SILENCE:
        raise DataError(f"{path} was left out, it is silent")
    return _Candidate(path, frames, rate)


def _cut(only: _Candidate) -> list[Piece]:
    if only.seconds < SHORTEST_SINGLE_S:
        raise DataError(
            f"{only.path} is the only recording and lasts {only.seconds:.1f} s; "
            f"give at least {SHORTEST_SINGLE_S:g} s, or several files"
        )
    test_start = round(only.frames * (1.0 - TEST_SHARE))
    return [
        Piece(only.path, "train", 0, test_start - round(GAP_S * only.rate)),
        Piece(only.path, "test", test_start, only.frames),
    ]


def _shared_out(found: Sequence[_Candidate], seed: int) -> list[Piece]:
    """Draw test files until they hold a tenth of the time; at least one file stays on each side."""
    wanted_s = TEST_SHARE * sum(one.seconds for one in found)
    order = np.random.default_rng(seed).permutation(len(found))
    test: set[int] = set()
    for index in order[:-1]:
        if wanted_s <= 0.0:
            break
        test.add(int(index))
        wanted_s -= found[index].seconds
    return [
        Piece(one.path, "test" if index in test else "train", 0, one.frames)
        for index, one in enumerate(found)
    ]


def read_piece(piece: Piece) -> Samples:
    """Decode one piece to (time,) float32 at 16 kHz, channels averaged.

    Works block by block, so that hours of 96 kHz fit. Raises DataError if the file is damaged.
    """
    try:
        with soundfile.SoundFile(piece.path) as file:
            file.seek(piece.start)
            blocks = _mono_blocks(file, piece.stop - piece.start)
            if file.samplerate == SAMPLE_RATE:
                parts = list(blocks)
            else:
                resampler = soxr.ResampleStream(
                    file.samplerate, SAMPLE_RATE, 1, dtype="float32", quality="HQ"
                )
                parts = [resampler.resample_chunk(block) for block in blocks]
                parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{piece.path} is damaged ({_plain(error)}); leave it out") from error
    return np.concatenate(parts)


def _mono_blocks(file: soundfile.SoundFile, frames: int) -> Iterator[Samples]:
    """At most ``frames`` frames from where the file stands, channels averaged."""
    while frames > 0:
        block = file.read(min(frames, BLOCK_FRAMES), dtype="float32", always_2d=True)
        if len(block) == 0:
            return
        frames -= len(block)
        yield np.ascontiguousarray(block.mean(axis=1), dtype=np.float32)


def _plain(error: Exception) -> str:
    return str(error).strip().rstrip(".").rpartition(": ")[2]
