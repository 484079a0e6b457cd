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
from training.render import SAMPLE_RATE, Samples

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


def scan(place: Path, seed: int) -> tuple[list[Piece], list[str]]:
    """Share out the usable recordings of a folder, or a single one; warn of each unusable file.

    Raises DataError if there is nothing at ``place`` to fill both splits with.
    """
    if not place.exists():
        raise DataError(f"{place} does not exist; give --wav-dir DOMAIN=FOLDER")
    found: list[_Candidate] = []
    warnings: list[str] = []
    for path in [place] if place.is_file() else _audio_files(place):
        try:
            found.append(_candidate(path))
        except DataError as error:
            warnings.append(str(error))
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
    try:
        info = soundfile.info(path)
    except soundfile.SoundFileError as error:
        raise DataError(
            f"{path} cannot be read ({_plain(error)}); convert it to WAV or FLAC"
        ) from error
    if info.frames < SHORTEST_S * info.samplerate:
        raise DataError(f"{path} was left out, it is shorter than {SHORTEST_S:g} s")
    return _Candidate(path, info.frames, info.samplerate)


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
        raise DataError(
            f"{piece.path} is damaged ({_plain(error)}); convert it again or leave it out"
        ) from error
    sound = np.concatenate(parts)
    if not np.isfinite(sound).all():
        raise DataError(
            f"{piece.path} holds values that are not numbers; convert it again or leave it out"
        )
    return sound


def _mono_blocks(file: soundfile.SoundFile, frames: int) -> Iterator[Samples]:
    while frames > 0:
        block = file.read(min(frames, BLOCK_FRAMES), dtype="float32", always_2d=True)
        if len(block) == 0:
            # The headers of compressed files may promise a little more than there is.
            if frames < file.samplerate:
                return
            raise DataError(
                f"{file.name} ends {frames / file.samplerate:.1f} s early; convert it again"
            )
        frames -= len(block)
        yield np.ascontiguousarray(block.mean(axis=1), dtype=np.float32)


def _plain(error: Exception) -> str:
    return str(error).strip().rstrip(".").rpartition(": ")[2]
