"""``umt train`` and ``umt eval``, from recordings to a bundle that is scored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("torch")

import bridge.scores
from evaluation.nll import CHANCE
from model.bundle import load_bundle
from model.errors import DataError
from tests.command_line import ROOT, umt
from tests.synthetic import tones
from training.checkpoint import load_checkpoint

SMALL = ("--profile", "tiny", "--batch", "2", "--segment-hops", "7")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two domains, prepared as a user does."""
    folder = tmp_path_factory.mktemp("train")
    own = []
    for domain, name in enumerate(("flat", "soft")):
        (folder / name).mkdir()
        for take in range(3):
            path = folder / name / f"{take}.wav"
            soundfile.write(path, tones(domain, 1.2, take), 16_000)
        own += ["--wav-dir", f"{name}={folder / name}"]
    assert umt("data", "prepare", "--data-dir", folder / "data", *own).status == 0
    return folder / "data"


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two steps; tests that go on with it copy nothing and come in any order."""
    out = tmp_path_factory.mktemp("runs") / "mine"
    said = umt("train", "--out", out, "--data-dir", data, "--steps", "2", *SMALL)
    assert said.status == 0, said.err
    assert said.out.splitlines()[0] == f"{out}: 2 of 2 steps; bundle in {out / 'bundle'}"
    assert "int8 costs" in said.out
    return out


def test_a_run_makes_a_bundle_of_all_prepared_domains(run: Path) -> None:
    assert load_bundle(run / "bundle").domain_names == ("flat", "soft")


def test_a_bundle_says_what_int8_weights_cost_it(run: Path) -> None:
    bundle = load_bundle(run / "bundle")
    assert bundle.nll.keys() == {"flat", "soft"}
    for score in bundle.nll.values():
        # Two steps from a guess: near chance with either weights.
        assert score.float32 == pytest.approx(CHANCE, abs=0.5)
        assert abs(score.int8_cost) < 0.02
        assert score.samples % bundle.config.hop_samples == 0


def test_a_bundle_that_cannot_be_scored_is_still_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DataError("no test recording of domain flat")

    monkeypatch.setattr(bridge.scores, "compare_weights", refuse)
    said = umt("train", "--out", tmp_path, "--data-dir", data, "--steps", "1", *SMALL)
    assert said.status == 0
    assert "warning: the cost of int8 weights was not measured: no test recording" in said.err
    assert load_bundle(tmp_path / "bundle").nll == {}


def test_a_run_can_begin_with_one_domain_of_a_bundle(run: Path, data: Path, tmp_path: Path) -> None:
    begun = ("--start-from", run / "bundle", "--domain", "soft", "--steps", "1", *SMALL)
    said = umt("train", "--out", tmp_path, "--data-dir", data, *begun)
    assert said.status == 0, said.err
    about = load_bundle(tmp_path / "bundle").about["training"]
    assert about["started_from"] == "the bundle of flat, soft"


def test_a_smaller_latent_begins_with_that_of_a_bundle(data: Path, tmp_path: Path) -> None:
    def train(name: str, channels: int, *more: object) -> None:
        sized = ("--latent-channels", channels, "--steps", "1", *SMALL, *more)
        said = umt("train", "--out", tmp_path / name, "--data-dir", data, *sized)
        assert said.status == 0, said.err

    train("wide", 16)
    train("narrow", 8, "--start-from", tmp_path / "wide" / "bundle")
    assert load_bundle(tmp_path / "narrow" / "bundle").config.latent_channels == 8


def test_a_run_is_not_begun_twice(run: Path, data: Path) -> None:
    said = umt("train", "--out", run, "--data-dir", data)
    assert said.status == 2
    assert "add --resume" in said.complaint


def test_resuming_names_the_options_it_cannot_change(run: Path, data: Path) -> None:
    changes = ("--domain", "flat", "--batch", "3", "--steps", "9", "--learning-rate", "1")
    said = umt("train", "--out", run, "--data-dir", data, "--resume", *changes)
    assert said.status == 2
    assert said.complaint.endswith("leave out --batch, --domain")


def test_a_resumed_run_may_be_longer_and_slower(run: Path, data: Path) -> None:
    before = load_checkpoint(run)[0]
    changes = ("--steps", before.steps + 1, "--learning-rate", before.learning_rate / 2)
    said = umt("train", "--out", run, "--data-dir", data, "--resume", *changes)
    assert said.status == 0, said.err
    settings, state = load_checkpoint(run)
    assert state["step"] == settings.steps == before.steps + 1
    assert settings.learning_rate == before.learning_rate / 2
    assert settings.config == before.config


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        (("--resume",), 1, "no checkpoint"),
        (("--data-dir", "nowhere"), 1, "run `umt data prepare`"),
        (("--domain", "horn"), 1, "prepared: flat, soft"),
        (("--latent-channels", "12"), 2, "must be a multiple of 8, got 12"),
        (("--profile", "huge"), 2, "paper, live, tiny"),
        (("--learning-rate", "nan"), 2, "learning_rate must be positive"),
        (("--segment-hops", "1000"), 1, "--segment-hops"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_line(
    data: Path, tmp_path: Path, options: tuple[str, ...], status: int, reason: str
) -> None:
    said = umt("train", "--out", tmp_path / "run", "--data-dir", data, *options)
    assert said.status == status
    assert reason in said.complaint
    assert not (tmp_path / "run").exists()


def test_torchrun_starts_the_command_as_the_guide_says(data: Path, tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert "torchrun --nproc-per-node 2 --no-python umt train" in guide
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    umt_program = (
        sys.executable,
        "-c",
        "import sys; from bridge.cli import main; sys.exit(main())",
    )
    options = ("--out", str(tmp_path), "--data-dir", str(data), "--steps", "2", *SMALL)
    said = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", "--no-python", *umt_program, "train", *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=240,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("2 of 2 steps") == 1
    assert load_bundle(tmp_path / "bundle").domain_names == ("flat", "soft")


def test_a_trained_bundle_is_scored_by_both_weight_types(
    run: Path, data: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.json"
    bundle = run / "bundle"
    where = ("--data-dir", data, "--bundle", bundle)
    said = umt("eval", "nll", *where, "--seconds", "0.2", "--json", scores)
    assert said.status == 0, said.err
    stored = json.loads(scores.read_text())
    assert stored["chance"] == pytest.approx(5.545, abs=1e-3)
    assert stored["machine"]
    assert list(stored["domains"]) == ["flat", "soft"]
    kept = load_bundle(bundle).nll
    for name, row in stored["domains"].items():
        assert row["int8"] - row["float32"] == pytest.approx(row["difference"])
        assert row["samples"] == pytest.approx(0.2 * 16_000, abs=160)
        assert f"{row['float32']:.4f}" in said.out
        assert kept[name].samples > 0.3 * 16_000, "kept without --save"


def test_the_scores_of_a_finished_bundle_can_be_kept_in_it(
    run: Path, data: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(run / "bundle", tmp_path / "bundle")
    where = ("--data-dir", data, "--bundle", bundle)
    said = umt("eval", "nll", *where, "--seconds", "0.2", "--save")
    assert said.status == 0, said.err
    before, after = load_bundle(run / "bundle"), load_bundle(bundle)
    assert all(score.samples <= 0.21 * 16_000 for score in after.nll.values())
    assert (after.about, after.domains) == (before.about, before.domains)
    shown = umt("domains", "--bundle", bundle).out
    assert all(f"{score.int8_cost:+.4f}" in shown for score in after.nll.values())
