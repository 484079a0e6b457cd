"""Sound from played notes: a MIDI file, the fluidsynth program, a SoundFont, one loudness."""

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from model.errors import DataError
from model.loudness import sounding_rms
from training.humanise import Played

SAMPLE_RATE = 16000
LOUDNESS_DB = -21.0
SYNTH_RATE = 48000
TICKS_PER_SECOND = 1920
TICKS_PER_QUARTER = 960
PERCUSSION_CHANNEL = 9
TAIL_S = 1.0
PEAK = 0.95
KNEE = 0.66
TRIM_MARGIN_S = 0.25
TRIM_DB = -60.0
SILENCE = 1e-5
DOUBLE_LEVEL = 0.7

# One core, no chorus, fixed interpolation: the same notes give the same samples.
SYNTH_OPTIONS = {
    "synth.cpu-cores": "1",
    "synth.polyphony": "256",
    "synth.dynamic-sample-loading": "1",
    "synth.chorus.active": "0",
    "synth.reverb.damp": "0.4",
    "synth.reverb.width": "0.5",
}

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Room:
    """Size and level of the synthesiser's reverberation, 0..1.

    Rooms stay small, because the decoder hears about an eighth of a second of its own past and
    could not learn a long tail.
    """

    size: float
    level: float

    @property
    def options(self) -> dict[str, str]:
        """As fluidsynth's settings."""
        return {
            "synth.reverb.room-size": f"{self.size:.3f}",
            "synth.reverb.level": f"{self.level:.3f}",
        }


USUAL_ROOM = Room(size=0.25, level=0.3)


@dataclass(frozen=True)
class Voice:
    """What plays a part: a General MIDI program (0..127) and a share of the velocity."""

    program: int
    level: float = 1.0
    doubled_by: int | None = None
    """A second program that plays the same notes at ``DOUBLE_LEVEL`` of the velocity."""

    @property
    def lines(self) -> tuple[tuple[int, float], ...]:
        """Program and share of the velocity of all that plays this part."""
        own = (self.program, self.level)
        if self.doubled_by is None:
            return (own,)
        return own, (self.doubled_by, self.level * DOUBLE_LEVEL)


class Synthesise(Protocol):
    """What makes sound of played notes: ``synthesise`` with a SoundFont, or something else."""

    def __call__(
        self, played: Sequence[Played], voices: Mapping[int, Voice], *, room: Room
    ) -> Samples:
        """(time,) float32 at ``SYNTH_RATE``, not yet scaled to any loudness."""
        ...


def find_fluidsynth() -> str:
    """Path of the fluidsynth program. Raises DataError, naming the package, where there is none."""
    program = shutil.which("fluidsynth")
    if program is None:
        raise DataError(
            "rendering needs the fluidsynth program; install it (Debian: apt install fluidsynth)"
        )
    return program


def synthesiser_version() -> str:
    """Name and version of the synthesiser, as the manifest states it."""
    answer = subprocess.run(
        [find_fluidsynth(), "--version"], capture_output=True, text=True, check=False
    )
    return "fluidsynth " + (answer.stdout.split("\n")[0].split() or ["of unknown version"])[-1]


def synthesise(
    played: Sequence[Played],
    voices: Mapping[int, Voice],
    soundfont: Path,
    rate: int = SYNTH_RATE,
    room: Room = USUAL_ROOM,
) -> Samples:
    """Render ``played`` with one General MIDI voice for each part.

    Returns (time,) float32 at ``rate``, channels averaged, not yet scaled to any loudness.
    Raises DataError if fluidsynth is missing or fails.
    """
    program = find_fluidsynth()
    with tempfile.TemporaryDirectory(prefix="umt-render-") as folder:
        midi, wave = Path(folder, "notes.mid"), Path(folder, "sound.wav")
        midi.write_bytes(midi_file(played, voices))
        command = [program, "-ni", "-q", "-R", "1", "-C", "0", "-g", "0.5", "-r", str(rate)]
        for name, value in (SYNTH_OPTIONS | room.options).items():
            command += ["-o", f"{name}={value}"]
        command += ["-O", "float", "-T", "wav", "-F", str(wave), str(soundfont), str(midi)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        # It ends with status 0 even if it could not open the SoundFont, and then plays another.
        errors = [line for line in result.stderr.splitlines() if "error" in line.lower()]
        if errors or result.returncode or not wave.exists():
            reason = errors[0] if errors else f"exit status {result.returncode}"
            raise DataError(f"fluidsynth could not render with {soundfont} ({reason})")
        sound, _ = soundfile.read(wave, dtype="float32", always_2d=True)
    return np.asarray(sound.mean(axis=1), dtype=np.float32)


def midi_file(played: Sequence[Played], voices: Mapping[int, Voice]) -> bytes:
    """A Standard MIDI File (format 0), each part on a channel of its own.

    No tempo is written, so MIDI's own holds: two quarters a second, one tick 1/1920 s.
    Raises DataError if there are more parts than MIDI has pitched channels (15).
    """
    free = [channel for channel in range(16) if channel != PERCUSSION_CHANNEL]
    parts = sorted({note.part for note in played})
    if len(parts) > len(free):
        raise DataError(
            f"a piece of {len(parts)} parts does not fit the {len(free)} channels of MIDI"
        )
    lines = [(part, *line) for part in parts for line in voices[part].lines]
    if len(lines) > len(free):
        raise DataError(
            f"{len(lines)} instruments, doublings included, do not fit the {len(free)} channels "
            "of MIDI"
        )
    players: dict[int, list[tuple[int, float]]] = {part: [] for part in parts}
    events = []
    for channel, (part, program, level) in zip(free, lines, strict=False):
        players[part].append((channel, level))
        events.append((0, 0, bytes([0xC0 | channel, program])))
    for note in played:
        start = round(note.start_s * TICKS_PER_SECOND)
        stop = max(start + 1, round((note.start_s + note.duration_s) * TICKS_PER_SECOND))
        for channel, level in players[note.part]:
            velocity = int(np.clip(round(note.velocity * level), 1, 127))
            # At one tick a note is released before it is struck again.
            events.append((start, 2, bytes([0x90 | channel, note.pitch, velocity])))
            events.append((stop, 1, bytes([0x80 | channel, note.pitch, 0])))
    end = max(time for time, _, _ in events) + round(TAIL_S * TICKS_PER_SECOND)
    track, now = bytearray(), 0
    for time, _, message in [*sorted(events), (end, 3, b"\xff\x2f\x00")]:
        track += _variable_length(time - now) + message
        now = time
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, TICKS_PER_QUARTER)
    return header + struct.pack(">4sI", b"MTrk", len(track)) + bytes(track)


def _variable_length(number: int) -> bytes:
    """MIDI's integer of seven bits a byte, most significant first, all but the last marked."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F | 0x80)
    return bytes(reversed(groups))


def at_loudness(sound: Samples, rate: int = SAMPLE_RATE) -> Samples:
    """Scale (time,) float32 to -21 dB RMS of full scale, pauses not counted.

    Peaks that would pass 0.95 are bent, never cut. Raises DataError if the sound is silent.
    """
    centred = sound - np.float32(sound.mean(dtype=np.float64) if len(sound) else 0.0)
    level = sounding_rms(centred, rate)
    if level < SILENCE:
        raise DataError("the sound is silent; leave it out")
    scaled: Samples = centred * np.float32(10.0 ** (LOUDNESS_DB / 20.0) / level)
    over = np.abs(scaled) > KNEE
    bent = KNEE + (PEAK - KNEE) * np.tanh((np.abs(scaled[over]) - KNEE) / (PEAK - KNEE))
    scaled[over] = np.sign(scaled[over]) * bent
    return scaled


def trimmed(sound: Samples, rate: int = SAMPLE_RATE) -> Samples:
    """Cut the silence before and after (60 dB below the peak) to a quarter of a second."""
    loud = np.flatnonzero(np.abs(sound) > np.abs(sound).max() * 10.0 ** (TRIM_DB / 20.0))
    if len(loud) == 0:
        return sound
    margin = round(TRIM_MARGIN_S * rate)
    return sound[max(0, loud[0] - margin) : loud[-1] + 1 + margin]
