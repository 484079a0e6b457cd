"""Translating files: any sound in, as much sound out, and no trace of what went wrong."""

from __future__ import annotations

import resource
import signal
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import bridge.loading
from bridge import files
from bridge.files import Translation, translate_file
from bridge.soundfiles import SoundReader, new_sound
from model.bundle import Bundle, default_bundle_path, load_bundle, random_bundle, save_bundle
from model.config import profile
from model.errors import AudioFileError
from realtime.backends import open_backend
from realtime.chain import Chain
from tests.command_line import Said, start_umt, umt
from tests.echo_backend import echo_backend, echo_bundle, echo_config

Audio = NDArray[np.float32]
EXAMPLE = Path(__file__).parents[1] / "bridge" / "example" / "performance.flac"
ENCODINGS = [
    ("wav", "PCM_U8"),
    ("wav", "PCM_16"),
    ("wav", "FLOAT"),
    ("wav", "ULAW"),
    ("wav", "MS_ADPCM"),
    ("flac", "PCM_24"),
    ("aiff", "PCM_16"),
    ("aiff", "PCM_S8"),
    ("caf", "PCM_32"),
    ("w64", "DOUBLE"),
    ("ogg", "VORBIS"),
    ("mp3", "MPEG_LAYER_III"),
]


@pytest.fixture(scope="module")
def bundle_path(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle")
    save_bundle(tiny_bundle, path)
    return path


@pytest.fixture(scope="module")
def tiny_chain(tiny_bundle: Bundle) -> Chain:
    return Chain(tiny_bundle, open_backend("numba-int8", tiny_bundle))


def noise(frames: int, channels: int = 1, seed: int = 0) -> Audio:
    shape = (frames, channels) if channels > 1 else frames
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def sound(path: Path, frames: int = 2000, rate: int = 44100, channels: int = 1) -> Path:
    soundfile.write(path, noise(frames, channels), rate)
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("extension", "subtype"), ENCODINGS)
def test_any_encoding_comes_back_as_long_and_at_the_same_rate(
    tmp_path: Path, tiny_chain: Chain, extension: str, subtype: str
) -> None:
    source, target = tmp_path / f"in.{extension}", tmp_path / f"out.{extension}"
    soundfile.write(source, noise(5003, 2), 44100, subtype=subtype)
    translate_file(source, target, tiny_chain, 0, lambda done, total: None)
    before, after = soundfile.info(source), soundfile.info(target)
    frames = len(soundfile.read(source)[0])
    assert (after.frames, after.samplerate, after.channels) == (frames, before.samplerate, 1)
    # Of the first no file is as long as it should be, the others would hiss.
    changed = subtype in ("MS_ADPCM", "PCM_U8", "PCM_S8")
    assert after.subtype == ("PCM_16" if changed else subtype)


@pytest.mark.parametrize("rate", [30, 8000, 11025, 16000, 22050, 48000, 96000, 192000, 4000000])
@pytest.mark.parametrize("frames", [1, 63, 64, 65, 8193])
def test_any_rate_and_length_gives_exactly_as_many_frames(
    tmp_path: Path, tiny_chain: Chain, rate: int, frames: int
) -> None:
    frames = min(frames, 4 * rate)
    source, target = sound(tmp_path / "in.wav", frames, rate), tmp_path / "out.wav"
    translate_file(source, target, tiny_chain, 0, lambda done, total: None)
    info = soundfile.info(target)
    assert (info.frames, info.samplerate) == (frames, rate)


@pytest.mark.parametrize("channels", [1, 2, 5, 32])
def test_channels_are_mixed_to_their_mean(tmp_path: Path, channels: int) -> None:
    source = tmp_path / "in.wav"
    audio = noise(40_000, channels).reshape(-1, channels)
    soundfile.write(source, audio, 48000, subtype="FLOAT")
    with SoundReader(source) as reader:
        mono = np.concatenate(list(reader.blocks()))
    np.testing.assert_allclose(mono, audio.mean(axis=1), atol=1e-6)


def test_a_translation_stays_where_it_was_in_time() -> None:
    config = echo_config(lookahead_layers=5)
    chain = Chain(echo_bundle(config), echo_backend(config))
    time_s = np.arange(48_000) / 48_000
    audio = (0.3 * np.sin(2 * np.pi * (200 + 900 * time_s) * time_s)).astype(np.float32)
    translation = Translation(chain, 48_000)
    parts = [translation.process(audio[at : at + 777]) for at in range(0, len(audio), 777)]
    heard = np.concatenate([*parts, translation.finish()])
    assert len(heard) == len(audio)
    # Half a sample of shift would cost more than mu-law's own noise.
    middle = slice(2000, -2000)
    assert np.sqrt(np.mean((heard - audio)[middle] ** 2)) < 0.01


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "out.aiff"])
def test_the_same_seed_gives_the_same_sound(tmp_path: Path, tiny_chain: Chain, name: str) -> None:
    source = tmp_path / "in.wav"
    soundfile.write(source, noise(9000), 44100, subtype="FLOAT")
    results = []
    for folder, seed in (("one", 5), ("two", 5), ("three", 6)):
        target = tmp_path / folder / name
        translate_file(source, target, tiny_chain, seed, lambda done, total: None)
        results.append(soundfile.read(target)[0])
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_nan_and_infinity_are_silence(tmp_path: Path, tiny_chain: Chain) -> None:
    audio = noise(6000)
    broken, silent = audio.copy(), audio.copy()
    for start, stop, value in ((100, 300, np.nan), (3000, 3001, np.inf), (5000, 5002, -np.inf)):
        broken[start:stop], silent[start:stop] = value, 0.0
    results = []
    for name, samples in (("broken.wav", broken), ("silent.wav", silent)):
        soundfile.write(tmp_path / name, samples, 16000, subtype="FLOAT")
        target = tmp_path / f"out-{name}"
        translate_file(tmp_path / name, target, tiny_chain, 0, lambda done, total: None)
        results.append(soundfile.read(target)[0])
    assert np.isfinite(results[0]).all()
    np.testing.assert_array_equal(*results)


def test_what_no_microphone_hears_is_cut_to_a_level_that_filters_bear(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.array([0.5, 1e30, -1e30]), 16000, subtype="FLOAT")
    with SoundReader(tmp_path / "in.wav") as reader:
        (block,) = reader.blocks()
    np.testing.assert_array_equal(block, [0.5, 8.0, -8.0])


def test_a_file_shorter_than_what_was_written_is_none(tmp_path: Path) -> None:
    def write_half() -> None:
        with new_sound(tmp_path / "o.wav", 48000) as writer:
            writer.write(noise(100))
            writer.frames += 50

    with pytest.raises(AudioFileError, match="100 of 150 frames arrived"):
        write_half()
    assert names_in(tmp_path) == []


def test_memory_does_not_grow_with_length(tmp_path: Path, tiny_chain: Chain) -> None:
    peaks = []
    for seconds in (4, 20):
        source = sound(tmp_path / f"{seconds}.wav", seconds * 16000, 16000)
        tracemalloc.start()
        translate_file(source, tmp_path / "out.wav", tiny_chain, 0, lambda done, total: None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    float32_bytes = 4 * 16 * 16000
    assert peaks[1] - peaks[0] < float32_bytes / 4


def test_progress_is_told_block_by_block(tmp_path: Path, tiny_chain: Chain) -> None:
    told: list[tuple[int, int]] = []
    source = sound(tmp_path / "in.wav", 100_000, 48000)
    translate_file(
        source, tmp_path / "out.wav", tiny_chain, 0, lambda *progress: told.append(progress)
    )
    assert len(told) > 2
    assert told == sorted(told)
    assert told[-1] == (100_000, 100_000)


def test_the_command_says_how_fast_it_was(tmp_path: Path, bundle_path: Path) -> None:
    source = sound(tmp_path / "in.wav")
    said = umt("translate", source, tmp_path / "out.wav", "--to", "b", "--bundle", bundle_path)
    assert said.status == 0, said.err
    assert "x real time" in said.out
    assert names_in(tmp_path) == ["in.wav", "out.wav"]


def test_domains_sound_different(tmp_path: Path, bundle_path: Path) -> None:
    source = sound(tmp_path / "in.wav")
    for domain in ("a", "b", "1"):
        target = tmp_path / f"{domain}.wav"
        umt("translate", source, target, "--to", domain, "--bundle", bundle_path)
    first, second, by_index = (soundfile.read(tmp_path / f"{name}.wav")[0] for name in "ab1")
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(second, by_index)


def test_a_folder_is_mirrored_and_a_bad_file_named(tmp_path: Path, bundle_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    sound(folder / "one.wav")
    sound(folder / "deep" / "two.flac", rate=48000)
    sound(folder / "deep" / "er" / "three.ogg")
    sound(folder / ".hidden.wav")
    (folder / "notes.txt").write_text("not sound")
    (folder / "bad.wav").write_text("not sound either")
    out = folder / "out"
    for _ in range(2):
        # The second time, what the first one wrote is not taken for input.
        said = umt("translate", folder, out, "--to", "a", "--bundle", bundle_path)
        assert said.status == 1
        assert names_in(out) == ["deep/er/three.ogg", "deep/two.flac", "one.wav"]
    problems = [line for line in said.err.splitlines() if line.startswith("umt: ")]
    assert "bad.wav" in problems[0]
    assert problems[1] == "umt: 1 of 4 files could not be translated"


def test_a_folder_may_be_translated_into_the_one_around_it(
    tmp_path: Path, bundle_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    sound(tmp_path / "in" / "take.wav")
    said = umt("translate", tmp_path / "in", tmp_path, "--to", "a", "--bundle", bundle_path)
    assert said.status == 0, said.err
    assert names_in(tmp_path) == ["in/take.wav", "take.wav"]


def test_a_file_goes_into_a_folder_that_exists(tmp_path: Path, bundle_path: Path) -> None:
    source = sound(tmp_path / "in.wav")
    (tmp_path / "folder").mkdir()
    said = umt("translate", source, tmp_path / "folder", "--to", "a", "--bundle", bundle_path)
    assert said.status == 0, said.err
    assert names_in(tmp_path) == ["folder/in.wav", "in.wav"]


class TestRefusals:
    """Each is one line that names the value, with the right status, and leaves no file behind."""

    @pytest.fixture(autouse=True)
    def _places(self, tmp_path: Path, bundle_path: Path) -> None:
        self.folder = tmp_path
        self.bundle_path = bundle_path

    def translate(self, source: Path, target: Path | str, *options: str) -> Said:
        before = names_in(self.folder)
        said = umt("translate", source, target, "--bundle", self.bundle_path, *options)
        assert names_in(self.folder) == before
        return said

    def test_an_empty_file(self) -> None:
        said = self.translate(sound(self.folder / "in.wav", 0), self.folder / "o.wav", "--to", "a")
        assert said.status == 1
        assert "nothing to translate" in said.complaint

    @pytest.mark.parametrize(
        ("name", "text", "reason"),
        [
            ("in.wav", "Dear diary,", "not sound in a format known here"),
            ("in.raw", "Dear diary,", "not sound in a format known here"),
            ("in.wav", "", "in.wav: it is empty"),
        ],
    )
    def test_a_file_that_is_not_sound(self, name: str, text: str, reason: str) -> None:
        (self.folder / name).write_text(text)
        said = self.translate(self.folder / name, self.folder / "o.wav", "--to", "a")
        assert said.status == 1
        assert reason in said.complaint

    def test_a_damaged_file(self) -> None:
        whole = sound(self.folder / "whole.flac", 60_000).read_bytes()
        (self.folder / "in.flac").write_bytes(whole[: len(whole) // 2])
        said = self.translate(self.folder / "in.flac", self.folder / "o.wav", "--to", "a")
        assert said.status == 1
        assert "damaged" in said.complaint

    def test_a_missing_file(self) -> None:
        said = self.translate(self.folder / "nowhere.wav", self.folder / "o.wav", "--to", "a")
        assert said.status == 2
        assert "nowhere.wav" in said.complaint

    def test_a_folder_without_sound(self) -> None:
        (self.folder / "in").mkdir()
        said = self.translate(self.folder / "in", self.folder / "o", "--to", "a")
        assert said.status == 1
        assert "no sound files" in said.complaint

    @pytest.mark.parametrize("domain", ["nope", "3", "-1", ""])
    def test_an_unknown_domain(self, domain: str) -> None:
        source = sound(self.folder / "in.wav")
        said = self.translate(source, self.folder / "o.wav", "--to", domain)
        assert said.status == 2
        assert "choose one of a, b, c" in said.complaint

    @pytest.mark.parametrize(
        "options",
        [
            ("--temperature", "0"),
            ("--temperature", "nan"),
            ("--temperature", "hot"),
            ("--seed", "-1"),
            ("--seed", str(2**64)),
            ("--backend", "abacus"),
        ],
    )
    def test_a_value_out_of_range(self, options: tuple[str, str]) -> None:
        source = sound(self.folder / "in.wav")
        said = self.translate(source, self.folder / "o.wav", "--to", "a", *options)
        assert said.status == 2
        assert said.complaint

    @pytest.mark.parametrize("name", ["out", "out.txt", "out.raw", "out.wav.part"])
    def test_a_format_that_cannot_be_told(self, name: str) -> None:
        source = sound(self.folder / "in.wav")
        said = self.translate(source, self.folder / name, "--to", "a")
        assert said.status == 2
        assert ".flac" in said.complaint

    def test_writing_over_the_source(self) -> None:
        source = sound(self.folder / "in.wav")
        (self.folder / "link.wav").symlink_to(source)
        for target in (source, self.folder / "link.wav", self.folder):
            assert "same" in self.translate(source, target, "--to", "a").complaint
        said = self.translate(self.folder, self.folder, "--to", "a")
        assert said.status == 2
        assert "same" in said.complaint

    def test_a_folder_into_a_file(self) -> None:
        source = sound(self.folder / "in.wav")
        assert self.translate(self.folder, source, "--to", "a").status == 2

    def test_a_folder_over_its_own_files(self) -> None:
        inner = self.folder / "in" / "in"
        inner.mkdir(parents=True)
        for path in (inner / "take.wav", inner.parent / "take.wav"):
            sound(path)
        said = self.translate(inner.parent, self.folder, "--to", "a")
        assert said.status == 2
        assert "in/take.wav is in IN and would be replaced" in said.complaint

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder nobody writes to")
    def test_a_folder_that_cannot_be_written(self) -> None:
        said = self.translate(sound(self.folder / "in.wav"), "/proc/out.wav", "--to", "a")
        assert said.status == 1
        assert "cannot write /proc/out.wav" in said.complaint

    @pytest.mark.parametrize("below", ["o.wav", "deep/er/o.wav"])
    def test_a_file_in_place_of_a_folder(self, below: str) -> None:
        source = sound(self.folder / "in.wav")
        said = self.translate(source, source / below, "--to", "a")
        assert said.status == 1
        assert said.complaint.endswith("in.wav is not a folder")

    def test_what_cannot_be_done_is_said_before_the_network_warms_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def warm_up(_: object) -> None:
            raise AssertionError("warmed up for nothing")

        monkeypatch.setattr(bridge.loading, "warm_up", warm_up)
        source, empty = sound(self.folder / "in.wav"), sound(self.folder / "empty.wav", 0)
        for one, other in ((source, source / "o.wav"), (empty, self.folder / "o.wav")):
            assert "internal error" not in self.translate(one, other, "--to", "a").complaint

    def test_two_threads_sound_like_one(self) -> None:
        tiny = profile("tiny")
        # Channels from which two threads sample together.
        decoder = replace(tiny.decoder, residual_channels=128, skip_channels=64, head_channels=32)
        save_bundle(random_bundle(replace(tiny, decoder=decoder), ("a",)), self.folder / "wide")
        source = sound(self.folder / "in.wav", frames=8193)
        for threads in (1, 2):
            said = umt(
                "translate", source, self.folder / f"{threads}.wav", "--to", "a",
                "--bundle", self.folder / "wide", "--threads", threads,
            )  # fmt: skip
            assert said.status == 0, said.err
        one, two = (soundfile.read(self.folder / f"{threads}.wav")[0] for threads in (1, 2))
        assert one.any()
        np.testing.assert_array_equal(two, one)

    def test_a_rate_the_format_cannot_hold(self) -> None:
        source = sound(self.folder / "in.wav", rate=96000)
        said = self.translate(source, self.folder / "o.mp3", "--to", "a")
        assert said.status == 1
        assert "96000" in said.complaint

    def test_more_than_a_wav_can_hold(self) -> None:
        with (
            pytest.raises(AudioFileError, match="4 GB"),
            new_sound(self.folder / "o.wav", 48000, "PCM_16", frames=2**31),
        ):
            pass
        assert names_in(self.folder) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_nothing(
    tmp_path: Path, bundle_path: Path, number: signal.Signals, status: int
) -> None:
    source = sound(tmp_path / "in.wav", 60 * 48000, 48000)
    target = tmp_path / "out" / "out.wav"
    process = start_umt("translate", source, target, "--to", "a", "--bundle", bundle_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / ".out.wav.part").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == status
    assert "Traceback" not in err
    assert names_in(tmp_path / "out") == []


def test_a_full_disk_is_one_line_and_no_file(tmp_path: Path, bundle_path: Path) -> None:
    source = sound(tmp_path / "in.wav", 200_000, 48000)

    def allow_100_kb() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = start_umt(
        "translate",
        source,
        tmp_path / "out.wav",
        "--to",
        "a",
        "--bundle",
        bundle_path,
        preexec_fn=allow_100_kb,
    )
    out, err = process.communicate(timeout=60)
    said = Said(process.returncode, out, err)
    assert said.status == 1
    assert "cannot write" in said.complaint
    assert names_in(tmp_path) == ["in.wav"]


def test_a_link_to_nothing_is_not_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "link.wav").symlink_to(tmp_path / "nothing.wav")
    assert not files.is_same_file(tmp_path / "in.wav", tmp_path / "link.wav")


@pytest.mark.skipif(not default_bundle_path().exists(), reason="no default bundle in this tree")
def test_the_default_bundle_translates(tmp_path: Path) -> None:
    """Every domain is as loud as the performance it is given, within 6 dB, and not silent."""
    played, rate = soundfile.read(EXAMPLE, dtype="float32", frames=2 * 48_000)
    soundfile.write(tmp_path / "in.wav", played, rate)
    for name in load_bundle().domain_names:
        said = umt("translate", tmp_path / "in.wav", tmp_path / f"{name}.wav", "--to", name)
        assert said.status == 0, said.err
        heard, _ = soundfile.read(tmp_path / f"{name}.wav")
        levels = [20 * np.log10(np.sqrt(np.mean(audio**2))) for audio in (played, heard)]
        assert abs(levels[0] - levels[1]) < 6, name
