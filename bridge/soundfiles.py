"""Sound files as streams of mono blocks.

A file that is written has its final name once it is whole; a recording has it from the start, and
is whole after every block.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from bridge.outputs import discard, new_file, require_place, shown
from model.errors import AudioFileError

Audio = NDArray[np.float32]

# Values of all channels in one block: memory stays the same for any length and channel count.
_BLOCK_VALUES = 2**15
# Far beyond any level that means sound, near enough for a filter's arithmetic.
_LOUDEST = 8.0
_EXTENSIONS = {"AIF": "AIFF", "OGA": "OGG", "OPUS": "OGG", "WAVE": "WAV", "SND": "AU"}
# Encodings whose length is exact. The others round up to blocks, or allow a few rates only.
_EXACT = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC_", "VORBIS", "OPUS", "MPEG_LAYER_III")
# Headerless, and kept in two files.
_UNUSABLE = frozenset(["RAW", "SD2"])
_SIZE_LIMITED = frozenset(["WAV", "WAVEX", "AIFF", "AU"])
_MOST_BYTES = 2**32 - 2**16
_UNRECOGNISED_FORMAT = 1


class SoundReader:
    """A sound file as mono float32 blocks at its own rate."""

    def __init__(self, path: Path):
        """Open the file. Raises AudioFileError if it is not one that can be read."""
        self.path = path
        try:
            self._file = soundfile.SoundFile(os.fsencode(path))
        except (soundfile.SoundFileError, TypeError, OSError) as error:
            raise AudioFileError(f"cannot read {shown(path)}: {_fault(path, error)}") from error
        self.rate: int = self._file.samplerate
        self.subtype: str = self._file.subtype
        self.frames: int = max(0, self._file.frames)
        """Length as the header tells it; damaged files may hold less."""

    def blocks(self) -> Iterator[Audio]:
        """The channels' mean, block by block; NaN and infinity count as silence.

        Raises AudioFileError where the file turns out to be damaged.
        """
        size = max(1, _BLOCK_VALUES // self._file.channels)
        while True:
            try:
                block = self._file.read(size, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, OSError) as error:
                raise AudioFileError(
                    f"{shown(self.path)} is damaged: {reason(error)}; repair or leave it out"
                ) from error
            if not len(block):
                return
            yield _mono(block)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> SoundReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SoundWriter:
    """Appends mono blocks to an open file."""

    def __init__(self, file: Any, path: Path):
        self._file = file
        self._path = path
        self.frames = 0
        """Frames written so far."""

    def write(self, block: Audio) -> None:
        """Append (time,) float32. Raises AudioFileError if the disk refuses."""
        try:
            self._file.write(block)
        except (soundfile.SoundFileError, OSError, AssertionError) as error:
            raise _unwritten(self._path, error) from error
        self.frames += len(block)


class GrowingSound:
    """A new mono float32 WAV file that can be read after every block, also if the program dies."""

    def __init__(self, path: Path, rate: int):
        """Make the file. Raises AudioFileError if it cannot be written, or is there already."""
        self._path = path
        self.frames = 0
        """Frames written so far."""
        require_place(path, AudioFileError)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("xb").close()
        except OSError as error:
            raise _unwritten(path, error) from error
        try:
            soundfile.SoundFile(
                os.fsencode(path), "w", rate, 1, subtype="FLOAT", format="WAV"
            ).close()
        except (soundfile.SoundFileError, OSError) as error:
            discard(path)
            raise _unwritten(path, error) from error

    def write(self, block: Audio) -> None:
        """Append (time,) float32. Raises AudioFileError if the disk refuses, or 4 GB are full."""
        if 4 * (self.frames + len(block)) > _MOST_BYTES:
            raise _unwritten(self._path, OSError("it is as long as WAV allows, 4 GB"))
        try:
            # The header tells the length of what is there when the file is closed.
            with soundfile.SoundFile(os.fsencode(self._path), "r+") as file:
                file.seek(0, soundfile.SEEK_END)
                file.write(block)
                whole = file.tell() == self.frames + len(block)
        except (soundfile.SoundFileError, OSError, AssertionError) as error:
            raise _unwritten(self._path, error) from error
        if not whole:
            raise _unwritten(self._path, AssertionError())
        self.frames += len(block)


@contextmanager
def new_sound(
    path: Path, rate: int, subtype: str | None = None, frames: int = 0
) -> Iterator[SoundWriter]:
    """A mono file that takes its name when the block ends well, and is gone otherwise.

    subtype: encoding wanted; None, or one the container cannot hold exactly, means the
    container's default.  frames: expected length, 0 if unknown.
    Raises AudioFileError if it cannot be written, before anything is there if possible.
    """
    container = container_of(path)
    subtype = _encoding(container, subtype)
    _require_room(path, container, subtype, frames)
    with new_file(path, AudioFileError) as part:
        with _opened(path, part, rate, container, subtype) as file:
            writer = SoundWriter(file, path)
            yield writer
        _require_whole(path, part, writer.frames)


def container_of(path: Path) -> str:
    """The container a file name asks for. Raises AudioFileError, listing what there is."""
    name = path.suffix.lstrip(".").upper()
    name = _EXTENSIONS.get(name, name)
    if name not in soundfile.available_formats() or name in _UNUSABLE:
        raise AudioFileError(
            f"cannot tell the format of {shown(path)} from its name; "
            "end it in .wav, .flac, .ogg, .aiff, .w64 or another that libsndfile writes"
        )
    return name


def is_sound_name(path: Path) -> bool:
    """Whether a file's name says that it is sound."""
    try:
        return bool(container_of(path))
    except AudioFileError:
        return False


def reason(error: BaseException) -> str:
    """What a sound library or the system says, without the path and the final full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = getattr(error, "error_string", None) or str(error)
    return str(text).strip().rstrip(".")


def _unwritten(path: Path, error: BaseException) -> AudioFileError:
    detail = reason(error)
    # soundfile asserts that everything was written, which a full disk makes untrue; libsndfile has
    # two words for all that a system refuses.
    if detail in ("", "System error"):
        detail = "the disk is full or the file too large"
    return AudioFileError(f"cannot write {shown(path)}: {detail}")


def _fault(path: Path, error: Exception) -> str:
    """Why a file could not be opened, where libsndfile's own words would not say it."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                if not file.read(1):
                    return "it is empty"
    except OSError as refusal:
        return reason(refusal)
    # soundfile wants a rate and more for raw samples, and raises TypeError without.
    if isinstance(error, TypeError) or getattr(error, "code", None) == _UNRECOGNISED_FORMAT:
        return "it is not sound in a format known here; convert it to WAV or FLAC"
    return reason(error)


def _mono(block: Audio) -> Audio:
    np.nan_to_num(block, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    np.clip(block, -_LOUDEST, _LOUDEST, out=block)
    return np.ascontiguousarray(block.mean(axis=1, dtype=np.float32))


def _encoding(container: str, subtype: str | None) -> str:
    if subtype and subtype.startswith(_EXACT) and soundfile.check_format(container, subtype):
        return subtype
    default = soundfile.default_subtype(container)
    if default is None:
        raise AudioFileError(f"{container} has no encoding of its own; write .wav or .flac")
    return default


def _require_room(path: Path, container: str, subtype: str, frames: int) -> None:
    sizes = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "DOUBLE": 8}
    if container in _SIZE_LIMITED and frames * sizes.get(subtype, 4) > _MOST_BYTES:
        raise AudioFileError(
            f"{shown(path)} would pass the 4 GB that {container} can hold; "
            "write .w64, .rf64 or .flac"
        )


@contextmanager
def _opened(path: Path, part: Path, rate: int, container: str, subtype: str) -> Iterator[Any]:
    try:
        file = soundfile.SoundFile(
            os.fsencode(part), "w", rate, 1, subtype=subtype, format=container
        )
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise AudioFileError(
            f"cannot write {shown(path)} as {container} {subtype} at {rate} Hz: {reason(error)}"
        ) from error
    with file:
        yield file


def _require_whole(path: Path, part: Path, frames: int) -> None:
    try:
        found = soundfile.info(os.fsencode(part)).frames
    except soundfile.SoundFileError as error:
        raise AudioFileError(f"cannot write {shown(path)}: {reason(error)}") from error
    if found < frames:
        raise AudioFileError(
            f"cannot write {shown(path)}: {found} of {frames} frames arrived; is the disk full?"
        )
