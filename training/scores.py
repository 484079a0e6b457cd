"""Notes of a MusicXML score, read with the standard library alone.

Only what a performance needs is kept: when a note sounds, for how long, its concert pitch and its
part. Repeats are played once, grace notes and cue notes are left out. Times are exact fractions of
a quarter note.
"""

import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from model.errors import DataError

SEMITONE_OF_STEP = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ZERO = Fraction(0)


@dataclass(frozen=True, order=True)
class Note:
    """One sounding note, at concert pitch.

    ``onset`` and ``duration`` are in quarter notes, ``pitch`` is a MIDI number.
    """

    onset: Fraction
    pitch: int
    duration: Fraction
    part: int

    @property
    def end(self) -> Fraction:
        """When the note stops, in quarter notes."""
        return self.onset + self.duration


@dataclass(frozen=True)
class Score:
    """A piece: its notes in order of time.

    ``Note.part`` is an index into ``parts``, the names. ``rights`` is what the file says of them.
    """

    notes: tuple[Note, ...]
    parts: tuple[str, ...]
    rights: str = ""

    @property
    def quarters(self) -> Fraction:
        """Length of the piece in quarter notes."""
        return max((note.end for note in self.notes), default=ZERO)


@dataclass(frozen=True)
class _Written:
    """A note as it stands in its measure, before ties are joined."""

    offset: Fraction
    duration: Fraction
    pitch: int
    continues: bool
    goes_on: bool


@dataclass
class _Staff:
    """What holds from measure to measure: the unit of durations and the transposition."""

    divisions: Fraction = Fraction(1)
    semitones: int = 0

    def quarters(self, element: ElementTree.Element) -> Fraction:
        return Fraction(element.findtext("duration") or 0) / self.divisions

    def apply(self, attributes: ElementTree.Element) -> None:
        divisions = attributes.findtext("divisions")
        if divisions is not None:
            self.divisions = Fraction(divisions)
        transpose = attributes.find("transpose")
        if transpose is not None:
            chromatic = int(float(transpose.findtext("chromatic") or 0))
            self.semitones = chromatic + 12 * int(float(transpose.findtext("octave-change") or 0))


def read_score(path: Path) -> Score:
    """Read a ``.mxl`` (zipped) or plain MusicXML file.

    Raises DataError if the file is not MusicXML in parts, or holds no notes.
    """
    try:
        root = _document(path)
        score = _score(root)
    except (
        OSError,
        ValueError,
        KeyError,
        ZeroDivisionError,
        zipfile.BadZipFile,
        ElementTree.ParseError,
    ) as error:
        raise DataError(f"{path} cannot be read as MusicXML ({error}); leave it out") from error
    if not score.notes:
        raise DataError(f"{path} holds no notes (is it score-partwise MusicXML?); leave it out")
    return score


def _document(path: Path) -> ElementTree.Element:
    if not zipfile.is_zipfile(path):
        return ElementTree.parse(path).getroot()
    with zipfile.ZipFile(path) as archive:
        return ElementTree.fromstring(archive.read(_score_member(archive)))


def _score_member(archive: zipfile.ZipFile) -> str:
    """Name of the score inside an ``.mxl``: what the container says, else the first XML file."""
    names = archive.namelist()
    if "META-INF/container.xml" in names:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        for element in container.iter():
            if element.tag.rpartition("}")[2] == "rootfile" and element.get("full-path") in names:
                return str(element.get("full-path"))
    scores = [
        name
        for name in names
        if name.endswith((".xml", ".musicxml")) and not name.startswith("META-INF/")
    ]
    if not scores:
        raise ValueError("the archive holds no score")
    return scores[0]


def _score(root: ElementTree.Element) -> Score:
    names = {
        entry.get("id"): (entry.findtext("part-name") or "").strip()
        for entry in root.iter("score-part")
    }
    parts = root.findall("part")
    measures = [_measures(part) for part in parts]
    starts = _measure_starts([[length for _, length in part] for part in measures])
    notes: list[Note] = []
    for index, part in enumerate(measures):
        notes += _joined(part, starts, index)
    rights = " ".join("".join(element.itertext()).strip() for element in root.iter("rights"))
    return Score(
        tuple(sorted(notes)), tuple(names.get(part.get("id"), "") for part in parts), rights.strip()
    )


def _measures(part: ElementTree.Element) -> list[tuple[list[_Written], Fraction]]:
    """The notes and the length of each measure of a part."""
    staff = _Staff()
    return [_measure(measure, staff) for measure in part.findall("measure")]


def _measure(measure: ElementTree.Element, staff: _Staff) -> tuple[list[_Written], Fraction]:
    written: list[_Written] = []
    position = longest = previous = ZERO
    for element in measure:
        if element.tag == "attributes":
            staff.apply(element)
        elif element.tag == "backup":
            position -= staff.quarters(element)
        elif element.tag == "forward":
            position += staff.quarters(element)
        elif element.tag == "note" and element.find("grace") is None:
            length = staff.quarters(element)
            # Notes of a chord after its first repeat that note's position.
            offset = previous if element.find("chord") is not None else position
            if element.find("chord") is None:
                previous, position = position, position + length
            written += _sounding(element, offset, length, staff.semitones)
        longest = max(longest, position)
    return written, longest


def _sounding(
    element: ElementTree.Element, offset: Fraction, length: Fraction, semitones: int
) -> Iterable[_Written]:
    pitch = element.find("pitch")
    if pitch is None or element.find("cue") is not None or length <= 0:
        return
    octave = int(pitch.findtext("octave") or 0)
    step = SEMITONE_OF_STEP[(pitch.findtext("step") or "").strip()]
    # Quarter-tone accidentals are rounded: the instruments have twelve notes to the octave.
    number = 12 * (octave + 1) + step + round(float(pitch.findtext("alter") or 0)) + semitones
    ties = {tie.get("type") for tie in element.findall("tie")}
    yield _Written(offset, length, number, "stop" in ties, "start" in ties)


def _measure_starts(lengths: list[list[Fraction]]) -> list[Fraction]:
    """Onset of every measure; the longest part decides, so that parts never drift apart."""
    starts = [ZERO]
    for index in range(max((len(part) for part in lengths), default=0)):
        starts.append(starts[-1] + max(part[index] for part in lengths if index < len(part)))
    return starts


def _joined(
    measures: list[tuple[list[_Written], Fraction]], starts: list[Fraction], part: int
) -> list[Note]:
    """Place the notes of one part in time, tied notes as one."""
    notes: list[Note] = []
    open_ties: dict[int, int] = {}
    for start, (written, _) in zip(starts, measures, strict=False):
        for item in sorted(written, key=lambda item: item.offset):
            onset = start + item.offset
            held = open_ties.pop(item.pitch, None) if item.continues else None
            if held is not None and notes[held].end == onset:
                notes[held] = replace(notes[held], duration=notes[held].duration + item.duration)
            else:
                held = len(notes)
                notes.append(Note(onset, item.pitch, item.duration, part))
            if item.goes_on:
                open_ties[item.pitch] = held
    return notes


def melody(notes: Iterable[Note]) -> list[Note]:
    """The upper line of ``notes``: one note at a time, each cut where the next one starts."""
    highest: dict[Fraction, Note] = {}
    for note in sorted(notes):
        highest[note.onset] = note
    line = [highest[onset] for onset in sorted(highest)]
    shortened = [
        replace(note, duration=min(note.duration, following.onset - note.onset))
        for note, following in pairwise(line)
    ]
    return shortened + line[-1:]


def excerpt(notes: Iterable[Note], start: Fraction, end: Fraction) -> list[Note]:
    """The notes that begin in [start, end), in order, moved so that the first begins at 0."""
    chosen = sorted(note for note in notes if start <= note.onset < end)
    first = chosen[0].onset if chosen else ZERO
    return [replace(note, onset=note.onset - first) for note in chosen]


def without_long_rests(notes: Iterable[Note], longest: Fraction) -> list[Note]:
    """Shorten every silence in which no part sounds to ``longest`` quarters."""
    shortened: list[Note] = []
    sounding_until = removed = ZERO
    for note in sorted(notes):
        rest = note.onset - sounding_until
        if rest > longest:
            removed += rest - longest
        sounding_until = max(sounding_until, note.end)
        shortened.append(replace(note, onset=note.onset - removed))
    return shortened
