"""`umt data prepare`: resuming, rendering, what is made again and what is left alone."""

import os
import resource
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge.commands.segments import unseen_segments
from model.errors import BundleError, DataError, UnknownDomain
from training import catalogue, render, sources, unseen
from training import prepare as preparation
from training.corpus import load_corpus
from training.humanise import Played
from training.ideal import is_rendered, played_by, players_of
from training.jobs import OTHER_FONT_SHARE, ROOM_LEVEL, ROOM_SIZE, TUNING_CENTS, circumstances_of
from training.manifest import manifest_path, read_manifest
from training.prepare import PrepareSummary, prepare
from training.progress import Step
from training.render import SAMPLE_RATE
from training.takes import takes

SEED = 11
ROOM = render.USUAL_ROOM


def tone(
    seconds: float, pitch_hz: float, rate: int = SAMPLE_RATE, level: float = 0.2
) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return level * np.sin(2 * np.pi * pitch_hz * time)


def ignore(step: Step) -> None:
    pass


def from_recordings(data: Path, place: Path, domain: str = "mine") -> PrepareSummary:
    return prepare(data, None, {domain: place}, SEED, ignore)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Five short recordings, two of them in a subfolder."""
    folder = tmp_path / "my recordings"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a", "b", "c", "more/a", "more/d")):
        soundfile.write(folder / f"{name}.wav", tone(2.0 + number, 300 + 40 * number), SAMPLE_RATE)
    return folder


def test_domain_names_are_checked(tmp_path: Path, recordings: Path) -> None:
    with pytest.raises(BundleError, match="My Domain"):
        from_recordings(tmp_path / "data", recordings, domain="My Domain")
    with pytest.raises(
        UnknownDomain, match=r"no built-in domain 'kazoo'.*strings.*--wav-dir kazoo"
    ):
        prepare(tmp_path / "data", ["kazoo"], {}, SEED, ignore)
    with pytest.raises(DataError, match="both built in"):
        prepare(tmp_path / "data", ["strings"], {"strings": recordings}, SEED, ignore)


def hashes(data: Path) -> dict[str, str]:
    return {row.file: row.sha256 for row in read_manifest(manifest_path(data)).files}


def test_a_second_run_makes_nothing_new(tmp_path: Path, recordings: Path) -> None:
    from_recordings(tmp_path / "data", recordings)
    before = manifest_path(tmp_path / "data").read_bytes()
    summary = from_recordings(tmp_path / "data", recordings)
    assert (summary.made, summary.kept) == (0, 5)
    assert manifest_path(tmp_path / "data").read_bytes() == before


def test_lost_and_changed_files_are_made_again(tmp_path: Path, recordings: Path) -> None:
    data = tmp_path / "data"
    from_recordings(data, recordings)
    before = hashes(data)
    first, second, *_ = (data / "domains" / file for file in before)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-2])
    assert from_recordings(data, recordings).made == 2
    assert hashes(data) == before
    load_corpus(data)


def test_recordings_taken_away_leave_the_domain(tmp_path: Path, recordings: Path) -> None:
    data = tmp_path / "data"
    from_recordings(data, recordings)
    (recordings / "b.wav").unlink()
    soundfile.write(recordings / "a.wav", tone(3, 500), SAMPLE_RATE)
    from_recordings(data, recordings)
    on_disk = {path.relative_to(data / "domains").as_posix() for path in data.rglob("*.wav")}
    assert on_disk == set(hashes(data))
    assert len(on_disk) == 4


def test_other_domains_are_left_as_they_are(tmp_path: Path, recordings: Path) -> None:
    data = tmp_path / "data"
    from_recordings(data, recordings, "first")
    from_recordings(data, recordings, "second")
    corpus = load_corpus(data)
    assert corpus.names == ("first", "second")
    assert load_corpus(data, ["second"]).names == ("second",)
    assert len(hashes(data)) == 10


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from training.prepare import prepare
def report(step):
    if step.stage == "render" and step.done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
prepare(Path(sys.argv[1]), None, {"mine": Path(sys.argv[2])}, int(sys.argv[3]), report, workers=1)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, recordings: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    from_recordings(whole, recordings)
    result = subprocess.run(
        [sys.executable, "-c", KILLED_RUN, str(killed), str(recordings), str(SEED)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert result.returncode == -signal.SIGKILL
    with pytest.raises(DataError, match="run `umt data prepare` to the end"):
        load_corpus(killed)
    # What a kill in the middle of writing leaves behind.
    journal = killed / "domains" / "unfinished.jsonl"
    journal.write_text(journal.read_text() + '\n{"domain": "mi')
    stray = killed / "domains" / "mine" / "train" / "half.wav.part"
    stray.write_bytes(b"half")
    summary = from_recordings(killed, recordings)
    assert (summary.made, summary.kept) == (3, 2)
    assert hashes(killed) == hashes(whole)
    assert not journal.exists()
    assert not stray.exists()


def test_a_full_disk_is_one_line_and_what_is_done_is_kept(tmp_path: Path, recordings: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Three of the five recordings are shorter.
    resource.setrlimit(resource.RLIMIT_FSIZE, (135_000, before[1]))
    try:
        with pytest.raises(
            DataError, match=r"\.wav cannot be written \(File too large\); free space"
        ):
            from_recordings(tmp_path / "data", recordings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "data/domains/manifest.json").exists()
    done = len(list((tmp_path / "data").rglob("*.wav")))
    summary = from_recordings(tmp_path / "data", recordings)
    # One that another thread finished as the run ended may not have been noted.
    assert done - 1 <= summary.kept <= done
    assert summary.kept + summary.made == 5


def test_progress_is_told_for_every_file(tmp_path: Path, recordings: Path) -> None:
    steps: list[Step] = []
    prepare(tmp_path / "data", None, {"mine": recordings}, SEED, steps.append)
    for stage in ("check", "render"):
        assert [step.done for step in steps if step.stage == stage] == [0, 1, 2, 3, 4, 5]
    assert {step.total for step in steps} == {5}


SONG = """<score-partwise><identification><rights>CC0</rights></identification>
<part-list><score-part id="P1"/><score-part id="P2"/></part-list>{}</score-partwise>"""


def song(shift: int) -> str:
    def part(name: str, octave: int) -> str:
        notes = "".join(
            f"<note><pitch><step>{'CDEFGAB'[(i + shift) % 7]}</step><octave>{octave}</octave>"
            "</pitch><duration>1</duration></note>"
            for i in range(16)
        )
        return (
            f'<part id="{name}"><measure><attributes><divisions>1</divisions></attributes>'
            f"{notes}</measure></part>"
        )

    return SONG.format(part("P1", 5) + part("P2", 4))


def sine_synthesiser(
    played: list[Played], voices: dict[int, render.Voice], soundfont: Path, room: render.Room
) -> render.Samples:
    """Stands in for fluidsynth: a sine for every note."""
    rate = render.SYNTH_RATE
    sound = np.zeros(round((played[-1].start_s + 2.0) * rate), np.float32)
    for note in played:
        wave = tone(note.duration_s, 440 * 2 ** ((note.pitch - 69) / 12), rate, 0.1)
        start = round(note.start_s * rate)
        room = len(sound) - start
        sound[start : start + len(wave)] += wave[:room].astype(np.float32)
    return sound


@pytest.fixture
def small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One built-in domain of two songs, its packages at hand, and sines for instruments."""
    packages = tmp_path / "data" / "packages"
    packages.mkdir(parents=True)
    wheel = packages / "songs.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for number in (1, 2):
            archive.writestr(f"{sources.CORPUS_FOLDER}/{number}.xml", song(number))
        archive.writestr(f"{sources.CORPUS_FOLDER}/{sources.CORPUS_TERMS}", "free")
    font = packages / "sines.sf3"
    font.write_bytes(b"sines")
    pinned = sources.Wheel("songs", "1.0", wheel.name, sources.sha256_of(wheel), "CC0")
    monkeypatch.setattr(sources, "MUSIC21", pinned)
    known = replace(
        sources.GENERAL_SOUNDFONT, file=font.name, sha256=sources.sha256_of(font), licence="none"
    )
    monkeypatch.setattr(sources, "SOUNDFONTS", (known,))
    recipe = replace(catalogue.STRINGS, train=("1.xml",), test=("2.xml",))
    monkeypatch.setitem(catalogue.RECIPES, "strings", recipe)
    monkeypatch.setattr(render, "synthesise", sine_synthesiser)
    monkeypatch.setattr(preparation, "synthesiser_version", lambda: "sines 1.0")
    return tmp_path / "data"


def test_a_built_in_domain_is_rendered_with_its_origin(small_world: Path) -> None:
    steps: list[Step] = []
    summary = prepare(small_world, ["strings"], {}, SEED, steps.append)
    assert summary.made == 6
    assert [step.stage for step in steps[:3]] == ["fetch"] * 3
    corpus = load_corpus(small_world)
    assert corpus.domain("strings").description == catalogue.STRINGS.description
    row = corpus.rows("strings", "train")[0]
    assert (row.package, row.version, row.path) == ("songs", "1.0", "music21/corpus/1.xml")
    assert row.licence.endswith("rights stated in the file: CC0")
    assert row.sound == "MuseScore General 0.2.1, sines 1.0"
    assert row.seed == SEED
    for sound in corpus.audio("strings", "train"):
        assert len(sound) > 3 * SAMPLE_RATE
        assert np.abs(sound).max() < 0.951
    assert (small_world / "scores" / "1.xml").exists()


def test_circumstances_are_drawn_for_each_take_alone() -> None:
    fonts = sources.SOUNDFONTS
    drawn = [
        circumstances_of(take, fonts, seed)
        for seed in range(60)
        for take in takes(catalogue.STRINGS, "train", "some/work.mxl", 4)
    ]
    share = sum(about.font == fonts[1] for about in drawn) / len(drawn)
    assert share == pytest.approx(OTHER_FONT_SHARE, abs=0.08)
    for values, (low, high) in (
        ([about.tuning_cents for about in drawn], (-TUNING_CENTS, TUNING_CENTS)),
        ([about.room.size for about in drawn], ROOM_SIZE),
        ([about.room.level for about in drawn], ROOM_LEVEL),
    ):
        margin = 0.05 * (high - low)
        assert low <= min(values) < low + margin
        assert high - margin < max(values) <= high
    take = next(takes(catalogue.STRINGS, "train", "some/work.mxl", 4))
    assert circumstances_of(take, fonts, 7) == circumstances_of(take, fonts, 7)
    assert {circumstances_of(take, fonts[:1], seed).font for seed in range(9)} == {fonts[0]}


def pitch_of(path: Path) -> float:
    """MIDI pitch of the strongest partial of a file."""
    sound, rate = soundfile.read(path)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 20))
    return float(69 + 12 * np.log2(spectrum.argmax() * rate / (1 << 20) / 440))


def test_takes_sound_as_far_out_of_tune_as_drawn(small_world: Path) -> None:
    prepare(small_world, ["strings"], {}, SEED, ignore)
    off = []
    for row in read_manifest(manifest_path(small_world)).files:
        work = row.path.removeprefix(f"{sources.CORPUS_FOLDER}/")
        for take in takes(catalogue.RECIPES["strings"], row.split, work, 2):
            if take.name == Path(row.file).name:
                cents = circumstances_of(take, sources.SOUNDFONTS, SEED).tuning_cents
                pitch = pitch_of(small_world / "domains" / row.file)
                off.append(100 * (pitch - round(pitch)) - cents)
    assert len(off) == 6
    assert np.abs(off).max() < 1.5


def test_an_ideal_translation_is_the_same_music_on_other_instruments(
    small_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(small_world, ["strings"], {}, SEED, ignore)
    corpus = load_corpus(small_world)
    library = preparation.fetch_library([catalogue.RECIPES["strings"]], small_world, ignore)
    row, sound = corpus.rows("strings", "test")[0], corpus.audio("strings", "test")[0]
    assert is_rendered(row)
    programs = set()

    def listen(played: list[Played], voices: dict[int, render.Voice], *rest: object, **more: Any):
        programs.update(voice.program for voice in voices.values())
        return sine_synthesiser(played, voices, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(render, "synthesise", listen)
    ideal = played_by(row, library, players_of("organ"))
    assert programs == {19}
    # The stand-in plays sines whatever the instrument, so the two agree to 16 bits.
    assert len(ideal) == len(sound)
    assert np.abs(ideal - sound).max() < 1e-4


@pytest.fixture
def other_makers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of the unseen instruments need not be there."""
    monkeypatch.setattr(unseen, "find_sounds", lambda sounds, packages: packages / sounds.file)
    monkeypatch.setattr(
        unseen, "play_recording", lambda played, *_: sine_synthesiser(played, {}, Path(), ROOM)
    )
    monkeypatch.setattr(unseen, "sing", lambda played: sine_synthesiser(played, {}, Path(), ROOM))


@pytest.mark.usefixtures("other_makers")
def test_instruments_that_no_domain_has_play_the_test_music(small_world: Path) -> None:
    prepare(small_world, ["strings"], {}, SEED, ignore)
    corpus, told = load_corpus(small_world), []
    cut = unseen_segments(corpus, small_world, ["strings"], 2, SEED, lambda: told.append(1))
    assert [one.domain for one in cut] == [name for name in unseen.UNSEEN for _ in range(2)]
    assert len(told) == len(cut)
    for one in cut:
        assert one.ideals.keys() == {"strings"}
        # The stand-in plays all alike, and strings reach whatever these do: what is heard of an
        # instrument that had to leave its octave is what an ideal translation plays.
        assert np.abs(one.audio - one.ideals["strings"]).max() < 1e-4


def test_no_domain_has_an_unseen_instrument() -> None:
    known = {
        program
        for recipe in catalogue.RECIPES.values()
        for one in recipe.instruments
        for program in (one.program, one.doubled_by)
    }
    programs = [one.program for given in unseen.UNSEEN.values() for one in given]
    assert not known & set(programs)
    assert len(programs) == len(set(programs))


@pytest.mark.usefixtures("other_makers")
def test_instruments_of_other_makers_sound_from_other_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fonts = []
    monkeypatch.setattr(render, "synthesise", lambda *_, soundfont, room: fonts.append(soundfont))
    for name, players in unseen.unseen_players(Path("packages")).items():
        assert (players.synthesise is None) == (name in unseen.FAMILIAR)
        if name in {"saxophone", "harp", "oohs"}:
            assert players.synthesise is not None
            players.synthesise([], {}, room=ROOM)
    assert fonts == 3 * [Path("packages") / sources.OTHER_SOUNDFONT.file]
    assert sources.OTHER_SOUNDFONT not in sources.SOUNDFONTS


def test_rendering_again_gives_the_same_files_and_another_seed_does_not(small_world: Path) -> None:
    prepare(small_world, ["strings"], {}, SEED, ignore)
    first = hashes(small_world)
    manifest_path(small_world).unlink()
    assert prepare(small_world, ["strings"], {}, SEED, ignore, workers=1).made == 6
    assert hashes(small_world) == first
    assert prepare(small_world, ["strings"], {}, SEED + 1, ignore).made == 6
    assert not set(hashes(small_world).values()) & set(first.values())


def test_an_interrupted_rendering_keeps_what_is_done(
    small_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(step: Step) -> None:
        if step.stage == "render" and step.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(small_world, ["strings"], {}, SEED, interrupt, workers=1)
    assert prepare(small_world, ["strings"], {}, SEED, ignore).kept == 3


def test_a_rendering_that_fails_ends_the_run(
    small_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> render.Samples:
        raise DataError("fluidsynth could not render")

    monkeypatch.setattr(render, "synthesise", fail)
    with pytest.raises(DataError, match="could not render"):
        prepare(small_world, ["strings"], {}, SEED, ignore)
    assert not manifest_path(small_world).exists()


def test_built_in_and_own_domains_are_made_together(small_world: Path, recordings: Path) -> None:
    summary = prepare(small_world, ["strings"], {"mine": recordings}, SEED, ignore)
    assert set(summary.minutes) == {
        (domain, split) for domain in ("mine", "strings") for split in ("train", "test")
    }
