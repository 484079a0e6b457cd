"""Reading MusicXML: what sounds, when, for how long, at which pitch."""

import zipfile
from fractions import Fraction
from pathlib import Path

import pytest

from model.errors import DataError
from training.scores import Note, Score, excerpt, melody, read_score, without_long_rests


def note(pitch: str, duration: int, inner: str = "") -> str:
    step, octave = pitch[0], pitch[-1]
    alter = {"#": "<alter>1</alter>", "b": "<alter>-1</alter>"}.get(pitch[1:-1], "")
    return (
        f"<note>{'<chord/>' if 'chord' in inner else ''}<pitch><step>{step}</step>{alter}"
        f"<octave>{octave}</octave></pitch><duration>{duration}</duration>"
        f"{inner.replace('chord', '')}</note>"
    )


def rest(duration: int) -> str:
    return f"<note><rest/><duration>{duration}</duration></note>"


def document(*parts: list[str], head: str = "") -> str:
    """A score-partwise document; each part is a list of the contents of its measures."""
    names = "".join(
        f'<score-part id="P{i}"><part-name>Part {i}</part-name></score-part>'
        for i in range(len(parts))
    )
    body = ""
    for i, measures in enumerate(parts):
        inside = "".join(f"<measure>{measure}</measure>" for measure in measures)
        body += f'<part id="P{i}">{inside}</part>'
    return f"<score-partwise>{head}<part-list>{names}</part-list>{body}</score-partwise>"


def divisions(per_quarter: int, inner: str = "") -> str:
    return f"<attributes><divisions>{per_quarter}</divisions>{inner}</attributes>"


def read(tmp_path: Path, *parts: list[str], head: str = "") -> Score:
    path = tmp_path / "piece.musicxml"
    path.write_text(document(*parts, head=head), encoding="utf-8")
    return read_score(path)


def heard(score: Score) -> list[tuple[float, float, int, int]]:
    return [(float(n.onset), float(n.duration), n.pitch, n.part) for n in score.notes]


def test_notes_follow_one_another_and_rests_take_time(tmp_path: Path) -> None:
    measure = divisions(2) + note("C4", 2) + rest(1) + note("F#4", 3) + note("Bb3", 2)
    score = read(tmp_path, [measure])
    assert heard(score) == [(0, 1, 60, 0), (1.5, 1.5, 66, 0), (3, 1, 58, 0)]
    assert score.parts == ("Part 0",)
    assert score.quarters == 4


def test_chord_notes_share_their_onset(tmp_path: Path) -> None:
    measure = divisions(1) + note("C4", 2) + note("E4", 2, "chord") + note("G4", 1)
    assert heard(read(tmp_path, [measure])) == [(0, 2, 60, 0), (0, 2, 64, 0), (2, 1, 67, 0)]


def test_backup_and_forward_place_a_second_voice(tmp_path: Path) -> None:
    measure = divisions(1) + note("G5", 4) + "<backup><duration>4</duration></backup>"
    measure += "<forward><duration>1</duration></forward>" + note("C4", 2)
    following = note("D5", 4)
    assert heard(read(tmp_path, [measure, following])) == [
        (0, 4, 79, 0),
        (1, 2, 60, 0),
        (4, 4, 74, 0),
    ]


def test_ties_across_measures_are_one_note(tmp_path: Path) -> None:
    first = divisions(2) + note("A4", 8, '<tie type="start"/>')
    middle = note("A4", 8, '<tie type="stop"/><tie type="start"/>')
    last = note("A4", 3, '<tie type="stop"/>') + note("A4", 5)
    assert heard(read(tmp_path, [first, middle, last])) == [(0, 9.5, 69, 0), (9.5, 2.5, 69, 0)]


def test_a_tie_that_ends_elsewhere_joins_nothing(tmp_path: Path) -> None:
    measure = divisions(1) + note("A4", 1, '<tie type="start"/>') + rest(1)
    measure += note("A4", 1, '<tie type="stop"/>')
    assert heard(read(tmp_path, [measure])) == [(0, 1, 69, 0), (2, 1, 69, 0)]


def test_transposing_instruments_sound_at_concert_pitch(tmp_path: Path) -> None:
    clarinet = "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose>"
    bass = "<transpose><chromatic>0</chromatic><octave-change>-1</octave-change></transpose>"
    score = read(
        tmp_path,
        [divisions(1, clarinet) + note("D5", 1)],
        [divisions(1, bass) + note("C3", 1)],
    )
    assert heard(score) == [(0, 1, 36, 1), (0, 1, 72, 0)]


def test_grace_and_cue_notes_are_left_out(tmp_path: Path) -> None:
    grace = "<note><grace/><pitch><step>B</step><octave>4</octave></pitch></note>"
    cue = "<note><cue/><pitch><step>E</step><octave>6</octave></pitch><duration>1</duration></note>"
    assert heard(read(tmp_path, [divisions(1) + grace + note("C5", 1) + cue + note("D5", 1)])) == [
        (0, 1, 72, 0),
        (2, 1, 74, 0),
    ]


def test_parts_of_uneven_measures_stay_together(tmp_path: Path) -> None:
    upper = [divisions(1) + note("C5", 3), note("D5", 4)]
    lower = [divisions(3) + note("C3", 12), note("D3", 12)]
    assert [n.onset for n in read(tmp_path, upper, lower).notes if n.pitch in (74, 50)] == [4, 4]


def test_triplets_are_exact(tmp_path: Path) -> None:
    measures = [divisions(3) + note("C5", 1) * 12] * 50
    score = read(tmp_path, measures)
    assert score.quarters == 200
    assert score.notes[-1].onset == 200 - Fraction(1, 3)


def test_the_statement_of_rights_is_kept(tmp_path: Path) -> None:
    head = "<identification><rights>free</rights></identification>"
    assert read(tmp_path, [divisions(1) + note("C5", 1)], head=head).rights == "free"


@pytest.mark.parametrize("with_container", [True, False])
def test_compressed_scores_are_read_from_their_archive(
    tmp_path: Path, with_container: bool
) -> None:
    path = tmp_path / "piece.mxl"
    with zipfile.ZipFile(path, "w") as archive:
        if with_container:
            archive.writestr("aside.xml", document([divisions(1) + note("C2", 1)]))
            archive.writestr(
                "META-INF/container.xml",
                '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
                '<rootfile full-path="score.xml"/></rootfiles></container>',
            )
        archive.writestr("score.xml", document([divisions(1) + note("E5", 1)]))
    assert heard(read_score(path)) == [(0, 1, 76, 0)]


@pytest.mark.parametrize(
    "contents",
    [b"", b"not xml", b"<score-timewise/>", b"PK\x03\x04 cut short"],
    ids=["empty", "text", "no parts", "half an archive"],
)
def test_what_is_not_a_score_is_refused_by_name(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "odd.mxl"
    path.write_bytes(contents)
    with pytest.raises(DataError, match=r"odd\.mxl"):
        read_score(path)


def test_an_unknown_pitch_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"piece\.musicxml"):
        read(tmp_path, [divisions(1) + note("H4", 1)])


def make(*rows: tuple[float, float, int]) -> list[Note]:
    return [Note(Fraction(onset), pitch, Fraction(length), 0) for onset, length, pitch in rows]


def test_melody_is_the_upper_line_one_note_at_a_time() -> None:
    line = melody(make((0, 4, 60), (0, 2, 64), (1, 2, 67), (3, 1, 62)))
    assert [(float(n.onset), float(n.duration), n.pitch) for n in line] == [
        (0, 1, 64),
        (1, 2, 67),
        (3, 1, 62),
    ]


def test_an_excerpt_begins_at_once() -> None:
    chosen = excerpt(
        make((0, 1, 60), (2.5, 1, 62), (3, 4, 64), (5, 1, 65)), Fraction(2), Fraction(5)
    )
    assert [(n.onset, n.pitch) for n in chosen] == [(0, 62), (Fraction(1, 2), 64)]


def test_only_the_rests_of_everyone_are_shortened() -> None:
    notes = make((4, 1, 60), (5, 8, 48), (12, 1, 64), (20, 1, 65))
    moved = without_long_rests(notes, Fraction(1))
    assert [float(n.onset) for n in moved] == [1, 2, 9, 11]
