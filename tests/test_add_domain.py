"""``umt add-domain``: recordings in, one more decoder for a bundle, and nothing else changed."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("torch")

import model.bundle
from model.bundle import Domain, load_bundle, random_bundle, save_bundle
from model.errors import TrainingError
from tests.command_line import Said, start_umt, umt
from tests.synthetic import tones
from training import run
from training.addition import losses, origins, resumed, take_in
from training.batches import Batch
from training.checkpoint import VERSION, load_checkpoint, save_checkpoint
from training.progress import Step
from training.settings import TrainSettings
from training.trainer import StepReport, Trainer

SMALL = ("--batch", "2", "--segment-hops", "7", "--preview-minutes", "0")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two untrained domains, and recordings of a third."""
    folder = tmp_path_factory.mktemp("add")
    save_bundle(random_bundle("tiny", ("a", "b"), seed=1), folder / "bundle")
    (folder / "recordings" / "more").mkdir(parents=True)
    for take in range(4):
        place = folder / "recordings" / ("more" if take % 2 else "") / f"{take}.wav"
        soundfile.write(place, tones(0, 5.0, take), 16_000)
    return folder


@pytest.fixture
def bundle(places: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, to change."""
    return Path(shutil.copytree(places / "bundle", tmp_path / "bundle"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def add(places: Path, bundle: Path, work: Path, *options: object, name: str = "kazoo") -> Said:
    where = ("--wav", places / "recordings", "--bundle", bundle, "--work", work)
    return umt("add-domain", name, *where, *SMALL, *options)


@pytest.fixture(scope="module")
def added(places: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """The bundle with a domain that trained for a moment, and what the command said."""
    folder = tmp_path_factory.mktemp("added")
    shutil.copytree(places / "bundle", folder / "bundle")
    length = ("--steps", "30", "--learning-rate", "0.03")
    said = add(places, folder / "bundle", folder / "run", *length, "--licence", "CC0")
    assert said.status == 0, said.err
    return folder / "bundle", said


def test_one_file_and_one_row_are_added_and_no_other_file_changes(
    places: Path, added: tuple[Path, Said]
) -> None:
    bundle, _ = added
    before, after = contents(places / "bundle"), contents(bundle)
    assert after.keys() - before.keys() == {"domains/kazoo.safetensors"}
    assert {name for name in before if before[name] != after[name]} == {"manifest.json"}
    old, new = (json.loads(files["manifest.json"]) for files in (before, after))
    assert new["domains"][:-1] == old["domains"]
    kazoo = load_bundle(bundle).domains[-1]
    assert kazoo == Domain("kazoo", "Recordings of kazoo.", -21.0, "CC0")
    assert new["sha256"].keys() - old["sha256"].keys() == {"domains/kazoo.safetensors"}


def test_the_new_domain_scores_better_than_the_decoder_it_began_with(
    added: tuple[Path, Said],
) -> None:
    bundle, said = added
    figures = re.search(r"held-out nats per sample: ([\d.]+) by .*, ([\d.]+) by its own", said.out)
    assert figures is not None, said.out
    before, after = map(float, figures.groups())
    assert after < before - 0.3
    score = load_bundle(bundle).nll["kazoo"]
    # On more of the same recordings, and by the decoders that play.
    assert score.float32 == pytest.approx(after, abs=0.3)
    assert abs(score.int8_cost) < 0.05
    assert "chance 5.55" in said.out


def test_the_encoder_is_the_bundles_own(places: Path, added: tuple[Path, Said]) -> None:
    trained = added[0].parent / "run" / "bundle" / "encoder.safetensors"
    assert trained.read_bytes() == (places / "bundle" / "encoder.safetensors").read_bytes()


def test_the_new_domain_can_be_played(added: tuple[Path, Said], tmp_path: Path) -> None:
    bundle, _ = added
    source = tmp_path / "in.wav"
    soundfile.write(source, tones(1, 0.5, 9), 16_000)
    heard = []
    for domain in ("kazoo", "2", "a"):
        said = umt(
            "translate", source, tmp_path / f"{domain}.wav", "--to", domain, "--bundle", bundle
        )
        assert said.status == 0, said.err
        heard.append(soundfile.read(tmp_path / f"{domain}.wav")[0])
    np.testing.assert_array_equal(heard[0], heard[1])
    assert not np.array_equal(heard[0], heard[2])
    assert "kazoo" in umt("domains", "--bundle", bundle).out


def test_the_run_says_how_it_was_made(added: tuple[Path, Said]) -> None:
    bundle, said = added
    about = load_bundle(bundle).about["added"]["kazoo"]
    assert about["training"]["steps"] == 30
    nearest = re.search(r"beginning with the decoder of (\w)", said.err)
    assert nearest is not None
    assert about["training"]["started_from"].startswith(f"decoder of {nearest[1]}, encoder ")
    assert about["minutes_of_recordings"]["kazoo"] == pytest.approx(0.25, abs=0.1)


def test_previews_are_the_example_and_a_recording_by_the_engine(
    places: Path, bundle: Path, tmp_path: Path
) -> None:
    work = tmp_path / "run"
    said = add(places, bundle, work, "--steps", "1", "--preview-minutes", "1e-9")
    assert said.status == 0, said.err
    names = {path.name for path in (work / "previews" / "000001").iterdir()}
    assert names == {
        "kazoo.wav", "kazoo-to-kazoo.wav", "performance.wav", "performance-to-kazoo.wav"
    }  # fmt: skip
    assert f"preview: {work}/previews/000001/performance-to-kazoo.wav" in said.err
    for source in ("kazoo", "performance"):
        one, other = (
            soundfile.info(work / "previews" / "000001" / f"{source}{to}.wav")
            for to in ("", "-to-kazoo")
        )
        assert (one.frames, one.samplerate) == (other.frames, other.samplerate)
        assert one.duration > 3


def test_an_interrupted_run_goes_on_to_what_an_unbroken_one_reaches(
    places: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path(shutil.copytree(bundle, tmp_path / "whole"))
    assert add(places, whole, tmp_path / "unbroken", "--steps", "7").status == 0
    honest, before = Trainer.train, contents(bundle)

    def interrupted(trainer: Trainer, batch: Batch) -> StepReport:
        report = honest(trainer, batch)
        if report.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return report

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train", interrupted)
        said = add(places, bundle, tmp_path / "broken", "--steps", "7")
    assert said.status == 130
    assert "stopped after 3 of 7 steps and saved; the same command goes on" in said.err
    assert contents(bundle) == before
    said = add(places, bundle, tmp_path / "broken", "--steps", "7")
    assert said.status == 0, said.err
    assert "3 of 7 steps done" in said.err
    file = "domains/kazoo.safetensors"
    assert (bundle / file).read_bytes() == (whole / file).read_bytes()


def test_a_run_that_ended_before_the_bundle_took_it_in_is_taken_in(
    places: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(bundle)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(model.bundle, "write_manifest", crash)
        assert add(places, bundle, tmp_path / "run", "--steps", "2").status != 0
    assert load_bundle(bundle).domain_names == ("a", "b")
    assert (bundle / "manifest.json").read_bytes() == before["manifest.json"]
    said = add(places, bundle, tmp_path / "run", "--steps", "2")
    assert said.status == 0, said.err
    assert load_bundle(bundle).domain_names == ("a", "b", "kazoo")


def test_the_bundle_of_the_package_is_copied_and_never_changed(
    places: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.bundle, "default_bundle_path", lambda: bundle)
    before = contents(bundle)
    wav = ("--wav", places / "recordings", "--work", tmp_path / "run", "--steps", "1")
    for named in ((), ("--bundle", bundle)):
        said = umt("add-domain", "kazoo", *wav, *SMALL, *named)
        assert said.status == 2
        assert "stays as it is; give --out DIR" in said.complaint
    said = umt("add-domain", "kazoo", *wav, *SMALL, "--out", tmp_path / "mine")
    assert said.status == 0, said.err
    assert contents(bundle) == before
    assert load_bundle(tmp_path / "mine").domain_names == ("a", "b", "kazoo")
    copied = contents(tmp_path / "mine")
    assert all(copied[name] == before[name] for name in before if name != "manifest.json")
    said = umt("add-domain", "kazoo", *wav, *SMALL, "--out", tmp_path / "mine")
    assert said.status == 2
    assert "mine exists already" in said.complaint


@pytest.mark.parametrize(
    ("name", "options", "status", "reason"),
    [
        ("a", (), 2, "has a domain 'a' already (it has a, b)"),
        ("Big Horn", (), 2, "domain name 'Big Horn' must be"),
        ("../up", (), 2, "domain name '../up' must be"),
        ("horn", ("--start-from", "tuba"), 2, "choose one of a, b"),
        ("horn", ("--wav", "nowhere"), 2, "--wav: 'nowhere' does not exist"),
        ("horn", ("--minutes", "0"), 2, "--minutes"),
        ("horn", ("--learning-rate", "nan"), 2, "learning_rate must be positive"),
        ("horn", ("--segment-hops", "10000"), 1, "--segment-hops"),
        ("horn", ("--bundle", "nowhere"), 1, "no bundle at nowhere"),
        ("horn", ("--work", "pyproject.toml"), 1, "pyproject.toml is not a folder"),
    ],
)
def test_what_cannot_be_added_is_said_in_a_line(
    places: Path, bundle: Path, tmp_path: Path, name: str, options: tuple[str, ...], status: int,
    reason: str,
) -> None:  # fmt: skip
    before = contents(bundle)
    said = add(places, bundle, tmp_path / "run", *options, name=name)
    assert said.status == status
    assert reason in said.complaint
    assert contents(bundle) == before
    assert not (tmp_path / "run").exists()


def with_recordings(folder: Path, *seconds: float) -> Path:
    folder.mkdir()
    for take, length in enumerate(seconds):
        soundfile.write(folder / f"{take}.wav", tones(0, length, take), 16_000)
    return folder


def test_too_few_recordings_are_refused(bundle: Path, tmp_path: Path) -> None:
    for folder, reason in (
        (with_recordings(tmp_path / "none"), "none holds no usable recording"),
        (with_recordings(tmp_path / "short", 5, 5), "5.0 s to train on, a domain needs 10 s"),
        (with_recordings(tmp_path / "single", 15), "at least 20 s, or several files"),
    ):
        said = add(tmp_path, bundle, tmp_path / "run", "--wav", folder)
        assert said.status == 1
        assert reason in said.complaint


def test_damaged_recordings_are_named_and_the_others_used(bundle: Path, tmp_path: Path) -> None:
    folder = with_recordings(tmp_path / "wav", 6, 6, 6)
    (folder / "broken.wav").write_bytes((folder / "0.wav").read_bytes()[:20])
    (folder / "words.flac").write_text("not sound")
    said = add(tmp_path, bundle, tmp_path / "run", "--wav", folder, "--steps", "1")
    assert said.status == 0, said.err
    warnings = [line for line in said.err.splitlines() if line.startswith("umt: warning: ")]
    assert len(warnings) == 2
    assert "broken.wav cannot be read" in warnings[0]
    assert "words.flac cannot be read" in warnings[1]


def test_a_full_disk_is_one_line_and_the_bundle_stays(
    places: Path, bundle: Path, tmp_path: Path
) -> None:
    before = contents(bundle)

    def allow_30_kb() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    where = ("--wav", places / "recordings", "--bundle", bundle, "--work", tmp_path / "run")
    process = start_umt("add-domain", "kazoo", *where, *SMALL, "--steps", "1",
                        preexec_fn=allow_30_kb)  # fmt: skip
    out, err = process.communicate(timeout=120)
    said = Said(process.returncode, out, err)
    assert said.status == 1
    assert "checkpoint.pt cannot be written" in said.complaint
    assert contents(bundle) == before
    assert not list((tmp_path / "run").glob(".*"))


def asked(**changes: object) -> TrainSettings:
    fields = {"domains": ("kazoo",), "given_encoder": True, "batch": 2, "segment_hops": 7}
    config = random_bundle("tiny").config
    return TrainSettings(config=config, **(fields | changes))  # type: ignore[arg-type]


def test_another_run_in_the_folder_is_not_gone_on_with(
    places: Path, bundle: Path, tmp_path: Path
) -> None:
    assert add(places, bundle, tmp_path / "run", "--steps", "1", "--start-from", "b").status == 0
    starts = origins(load_bundle(bundle))
    run = tmp_path / "run"
    assert resumed(run, asked(), None, starts).source == "b"
    assert resumed(run, asked(), None, starts).settings.steps == 1
    assert resumed(run, asked(), 9, starts).settings.steps == 9
    with pytest.raises(TrainingError, match="seed: 0, asked 3.*another folder with --work"):
        resumed(run, asked(seed=3), None, starts)
    with pytest.raises(TrainingError, match="a run of kazoo that began with the decoder of b"):
        resumed(run, asked(), None, {"a": starts["a"]})
    with pytest.raises(TrainingError, match="holds a run of kazoo"):
        resumed(run, asked(domains=("horn",)), None, starts)
    other = origins(random_bundle("tiny", ("a", "b"), seed=2))
    with pytest.raises(TrainingError, match="another folder with --work"):
        resumed(run, asked(), None, other)
    saved, state = load_checkpoint(run)
    save_checkpoint(run, saved, state | {"version": VERSION - 1})
    with pytest.raises(TrainingError, match="earlier version .* another run with --work"):
        resumed(run, asked(), None, starts)


def ignore(step: Step) -> None:
    pass


def test_the_new_decoder_is_taught_as_the_others_were(
    places: Path, tmp_path: Path, bundle: Path
) -> None:
    shares = {"microphone_share": 0.25, "teacher_off_level": 0.125, "teacher_remnants": 0.375}
    taught = shares | {"teacher_noise": 2, "teacher_silence": 0.75, "steps": 9}
    save_bundle(replace(load_bundle(bundle), about={"training": taught}), bundle)
    options = ("--steps", "1", "--teacher-silence", "0.5")
    assert add(places, bundle, tmp_path / "run", *options).status == 0
    settings, _ = load_checkpoint(tmp_path / "run")
    assert settings.teacher_noise == 2.0
    assert {name: getattr(settings, name) for name in shares} == shares
    assert (settings.teacher_silence, settings.steps) == (0.5, 1)


def test_the_nearest_decoder_is_the_one_that_is_surprised_least(places: Path) -> None:
    bundle = random_bundle("tiny", ("sure", "even"), seed=1)
    sure, even = (
        {name: np.zeros_like(value) for name, value in bundle.decoders[domain].items()}
        for domain in bundle.domain_names
    )
    # Of a code that full-scale sound alone has.
    sure["head.logits.bias"][0] = 20.0
    bundle = replace(bundle, decoders={"sure": sure, "even": even})
    recordings, _ = take_in(Domain("kazoo"), places / "recordings", 0, ignore)
    nats = losses(bundle, recordings, asked())
    assert nats == pytest.approx({"sure": 20.0, "even": np.log(256)}, abs=0.01)


def test_the_length_is_planned_halfway_by_the_pace_until_then(
    places: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, honest = [0.0], Trainer.train

    def train(trainer: Trainer, batch: Batch) -> StepReport:
        clock[0] += 60.0
        return honest(trainer, batch)

    monkeypatch.setattr(Trainer, "train", train)
    monkeypatch.setattr(run.time, "monotonic", lambda: clock[0])
    said = add(places, bundle, tmp_path / "run", "--minutes", "9")
    assert said.status == 0, said.err
    settings, state = load_checkpoint(tmp_path / "run")
    # 5 of 9 minutes have passed when half of them have, and 5 steps.
    assert settings.steps == state["step"] == 9


def test_a_killed_run_leaves_the_bundle_and_goes_on(
    places: Path, bundle: Path, tmp_path: Path
) -> None:
    before = contents(bundle)
    where = ("--wav", places / "recordings", "--bundle", bundle, "--work", tmp_path / "run")
    length = ("--steps", "100000", "--save-minutes", "0")
    process = start_umt("add-domain", "kazoo", *where, *SMALL, *length)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "checkpoint.pt").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate(timeout=20)
    assert contents(bundle) == before
    done = load_checkpoint(tmp_path / "run")[1]["step"]
    said = add(places, bundle, tmp_path / "run", "--steps", done + 1)
    assert said.status == 0, said.err
    assert load_bundle(bundle).about["added"]["kazoo"]["training"]["steps"] == done + 1
