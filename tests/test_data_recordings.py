"""A user's recordings as a domain, of any kind, and the corpus that is loaded from it."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.errors import DataError
from training.corpus import load_corpus
from training.manifest import manifest_path, read_manifest
from training.prepare import PrepareSummary, prepare
from training.progress import Step
from training.render import SAMPLE_RATE

SEED = 11


def tone(
    seconds: float, pitch_hz: float, rate: int = SAMPLE_RATE, level: float = 0.2
) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return level * np.sin(2 * np.pi * pitch_hz * time)


def ignore(step: Step) -> None:
    pass


def from_recordings(data: Path, place: Path, domain: str = "mine") -> PrepareSummary:
    return prepare(data, None, {domain: place}, SEED, ignore)


def pitch_hz(sound: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum) * SAMPLE_RATE / len(sound))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Five recordings, each with its own rate, channels and format, one of them in a subfolder."""
    folder = tmp_path / "my recordings"
    (folder / "more").mkdir(parents=True)
    stereo = np.stack([tone(3, 440, 44100), 0.5 * tone(3, 440, 44100)], axis=1)
    soundfile.write(folder / "a take.wav", stereo, 44100, subtype="PCM_16")
    soundfile.write(folder / "low.wav", tone(4, 330, 8000), 8000, subtype="PCM_U8")
    soundfile.write(folder / "fine.flac", tone(2, 550, 96000, 1e-3), 96000, subtype="PCM_24")
    soundfile.write(folder / "more" / "low.aiff", tone(2, 220, 16000), 16000)
    soundfile.write(folder / "more" / "loss.ogg", tone(2, 660, 48000), 48000)
    (folder / "notes.txt").write_text("not a recording")
    return folder


def test_recordings_of_any_kind_become_a_domain(tmp_path: Path, recordings: Path) -> None:
    summary = from_recordings(tmp_path / "data", recordings)
    assert (summary.made, summary.kept, summary.warnings) == (5, 0, ())
    corpus = load_corpus(tmp_path / "data")
    assert corpus.names == ("mine",)
    assert corpus.domain("mine").licence == "user's own"
    rows = corpus.rows("mine", "train") + corpus.rows("mine", "test")
    sounds = corpus.audio("mine", "train") + corpus.audio("mine", "test")
    heard = {
        row.path: (pitch_hz(sound), len(sound)) for row, sound in zip(rows, sounds, strict=True)
    }
    expected = {
        "a take.wav": (440, 48000),
        "low.wav": (330, 64000),
        "fine.flac": (550, 32000),
        "more/low.aiff": (220, 32000),
        "more/loss.ogg": (660, 32000),
    }
    assert set(heard) == set(expected)
    for path, (frequency, length) in expected.items():
        assert heard[path][0] == pytest.approx(frequency, abs=1)
        assert heard[path][1] == pytest.approx(length, abs=1)
    for sound in sounds:
        assert sound.dtype == np.float32
        assert 10 * np.log10(np.square(sound).mean()) == pytest.approx(-21.0, abs=0.1)
    assert len(corpus.rows("mine", "test")) == 1
    assert summary.minutes["mine", "train"] == pytest.approx(corpus.seconds("mine", "train") / 60)


def test_files_of_one_name_in_two_folders_are_both_kept(tmp_path: Path) -> None:
    for name in ("x/1.wav", "x-1.wav", "x 1.wav", "y.wav"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(1.5, 300), SAMPLE_RATE)
    from_recordings(tmp_path / "data", tmp_path / "in")
    rows = read_manifest(manifest_path(tmp_path / "data")).files
    assert len({row.file for row in rows}) == len({row.path for row in rows}) == 4


def test_a_single_recording_is_cut_with_a_gap(tmp_path: Path) -> None:
    rising = np.linspace(-0.5, 0.5, 40 * SAMPLE_RATE) * np.sign(tone(40, 1000))
    path = tmp_path / "solo.wav"
    soundfile.write(path, rising, SAMPLE_RATE, subtype="PCM_24")
    from_recordings(tmp_path / "data", path)
    corpus = load_corpus(tmp_path / "data")
    assert corpus.seconds("mine", "train") == pytest.approx(34.0)
    assert corpus.seconds("mine", "test") == pytest.approx(4.0)


def test_the_split_follows_the_seed(tmp_path: Path, recordings: Path) -> None:
    def test_files(seed: int) -> tuple[str, ...]:
        data = tmp_path / f"data{seed}"
        prepare(data, None, {"mine": recordings}, seed, ignore)
        return tuple(row.path for row in load_corpus(data).rows("mine", "test"))

    choices = {seed: test_files(seed) for seed in range(6)}
    assert len(set(choices.values())) > 1
    assert test_files(3) == choices[3]


def test_bad_recordings_are_named_and_passed_over(tmp_path: Path, recordings: Path) -> None:
    (recordings / "broken.wav").write_bytes(b"RIFF and nothing more")
    whole = (recordings / "fine.flac").read_bytes()
    (recordings / "cut.flac").write_bytes(whole[: len(whole) // 3])
    soundfile.write(recordings / "silent.wav", np.zeros(SAMPLE_RATE * 2), SAMPLE_RATE)
    soundfile.write(recordings / "short.wav", tone(0.5, 440), SAMPLE_RATE)
    infinite = np.full(SAMPLE_RATE * 2, np.inf, np.float32)
    soundfile.write(recordings / "infinite.wav", infinite, SAMPLE_RATE, subtype="FLOAT")
    summary = from_recordings(tmp_path / "data", recordings)
    assert summary.made == 5
    for name in ("broken", "cut", "silent", "short", "infinite"):
        assert sum(f"{name}." in warning for warning in summary.warnings) == 1
    assert all("\n" not in warning for warning in summary.warnings)


@pytest.mark.parametrize("kind", ["empty", "unusable", "absent", "one short file"])
def test_a_folder_with_nothing_to_use_is_refused(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "in"
    if kind != "absent":
        place.mkdir()
    if kind == "unusable":
        (place / "broken.wav").write_bytes(b"nothing")
    if kind == "one short file":
        soundfile.write(place / "a.wav", tone(5, 440), SAMPLE_RATE)
    with pytest.raises(DataError, match="give"):
        from_recordings(tmp_path / "data", place)
    assert not manifest_path(tmp_path / "data").exists()


def test_a_recording_of_which_an_end_is_silent_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fades.wav"
    soundfile.write(path, np.concatenate([tone(30, 440), np.zeros(6 * 16000)]), SAMPLE_RATE)
    with pytest.raises(DataError, match=r"fades\.wav has a test part .* silent"):
        from_recordings(tmp_path / "data", path)


def hashes(data: Path) -> dict[str, str]:
    return {row.file: row.sha256 for row in read_manifest(manifest_path(data)).files}


def test_a_changed_file_is_not_loaded(tmp_path: Path, recordings: Path) -> None:
    data = tmp_path / "data"
    from_recordings(data, recordings)
    file = data / "domains" / next(iter(hashes(data)))
    contents = bytearray(file.read_bytes())
    contents[-1] ^= 1
    file.write_bytes(bytes(contents))
    with pytest.raises(DataError, match=r"SHA-256 differs\); run `umt data prepare` again"):
        load_corpus(data)


def test_a_lost_file_is_named(tmp_path: Path, recordings: Path) -> None:
    data = tmp_path / "data"
    from_recordings(data, recordings)
    file = data / "domains" / next(iter(hashes(data)))
    file.unlink()
    with pytest.raises(DataError, match=rf"{file.name} cannot be read"):
        load_corpus(data)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": 99}', "format 99"),
        ('{"format": 1, "domains": [{"name": "NO"}], "files": []}', "damaged"),
        ('{"format": 1, "domains": [], "files": [{"file": "a"}]}', "damaged"),
        ('{"format": 1, "domains": [], "files": []}', "lists no domains"),
        ('{"format": 1, "domains": [{"name": "a"}], "files": []}', "no train files"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(
    tmp_path: Path, contents: str, message: str
) -> None:
    path = manifest_path(tmp_path)
    path.parent.mkdir()
    path.write_text(contents)
    with pytest.raises(DataError, match=message):
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        "../outside.wav",
        "/outside.wav",
        "mine/train/../../../outside.wav",
        "mine/outside.wav",
        "../train/outside.wav",
        "other/train/outside.wav",
    ],
)
def test_a_manifest_names_no_file_outside_its_domain(
    tmp_path: Path, recordings: Path, file: str
) -> None:
    data = tmp_path / "data"
    from_recordings(data, recordings)
    outside = data / "outside.wav"
    outside.write_text("not ours")
    stored = json.loads(manifest_path(data).read_text())
    stored["files"][0]["file"] = file
    manifest_path(data).write_text(json.dumps(stored))
    for use in (lambda: load_corpus(data), lambda: from_recordings(data, recordings)):
        with pytest.raises(DataError, match=r"damaged.*outside\.wav"):
            use()
    assert outside.exists()


def test_a_sound_of_another_rate_is_not_loaded(tmp_path: Path, recordings: Path) -> None:
    data = tmp_path / "data"
    from_recordings(data, recordings)
    stored = json.loads(manifest_path(data).read_text())
    row = stored["files"][0]
    path = data / "domains" / row["file"]
    soundfile.write(path, tone(1, 440, 8000), 8000)
    row["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest_path(data).write_text(json.dumps(stored))
    with pytest.raises(DataError, match="is not 16000 Hz mono"):
        load_corpus(data)


def test_a_recording_that_changed_is_taken_in_again(tmp_path: Path, recordings: Path) -> None:
    data = tmp_path / "data"
    from_recordings(data, recordings)
    before = hashes(data)
    soundfile.write(recordings / "low.wav", tone(4, 350, 8000), 8000, subtype="PCM_U8")
    assert from_recordings(data, recordings).made == 1
    assert sum(before[file] != sha256 for file, sha256 in hashes(data).items()) == 1


def test_an_unknown_domain_is_refused_with_the_known_ones(tmp_path: Path, recordings: Path) -> None:
    from_recordings(tmp_path / "data", recordings)
    with pytest.raises(DataError, match=r"'organ' \(prepared: mine\)"):
        load_corpus(tmp_path / "data", ["organ"])


def test_the_manifest_is_plain_json_and_sounds_cannot_be_written_to(
    tmp_path: Path, recordings: Path
) -> None:
    from_recordings(tmp_path / "data", recordings)
    stored = json.loads(manifest_path(tmp_path / "data").read_text())
    assert stored["domains"][0]["loudness_db"] == -21.0
    with pytest.raises(ValueError, match="read-only"):
        load_corpus(tmp_path / "data").audio("mine", "test")[0][0] = 0.0
