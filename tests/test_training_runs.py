"""Runs: resumed exactly, safe from kills, and the same over two processes as over one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model.bundle import load_bundle  # noqa: E402
from model.errors import TrainingError  # noqa: E402
from tests.synthetic import recordings, settings  # noqa: E402
from training.checkpoint import load_checkpoint  # noqa: E402
from training.run import RunLimits, train  # noqa: E402
from training.trainer import Trainer  # noqa: E402

ROOT = Path(__file__).parents[1]
QUIET = RunLimits(evaluate_steps=4, log_steps=2)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    networks: dict[str, torch.Tensor] = load_checkpoint(folder)[1]["networks"]
    return networks


def assert_same_weights(one: Path, other: Path, atol: float = 0.0) -> None:
    expected = weights(other)
    for name, value in weights(one).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=atol, msg=name)


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    train(tmp_path / "whole", settings(shared_steps=3), recordings(), QUIET)

    class Stop(Exception):
        pass

    def stop_at_5(report: object, held_out: object) -> None:
        if report.step == 5:  # type: ignore[attr-defined]
            raise Stop

    # The kill loses what came after the last checkpoint, which the resumed run does again.
    always_save = RunLimits(evaluate_steps=4, log_steps=2, save_minutes=0)
    with pytest.raises(Stop):
        train(tmp_path / "broken", settings(shared_steps=3), recordings(), always_save, stop_at_5)
    assert load_checkpoint(tmp_path / "broken")[1]["step"] == 4
    train(tmp_path / "broken", None, recordings(), QUIET)
    assert_same_weights(tmp_path / "broken", tmp_path / "whole")
    log = (tmp_path / "broken/log.jsonl").read_text().splitlines()
    steps = [row["step"] for row in map(json.loads, log) if "loss" in row]
    assert steps == sorted(set(steps))


def test_a_finished_run_leaves_bundle_log_and_plot(tmp_path: Path) -> None:
    train(tmp_path, settings(), recordings(), QUIET)
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.domain_names == ("flat", "soft")
    assert bundle.about["training"]["steps"] == 8
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"flat", "soft"} == rows[-1]["held_out"].keys()
    assert not list(tmp_path.rglob("*.part"))


def test_previews_are_written_when_due(tmp_path: Path) -> None:
    limits = RunLimits(preview_minutes=1e-9)
    train(tmp_path, settings(steps=1), recordings(), limits)
    names = {path.name for path in (tmp_path / "previews").rglob("*.wav")}
    assert names == {"flat.wav", "flat-to-soft.wav", "soft.wav", "soft-to-flat.wav"}


def test_minutes_end_a_run_that_can_go_on(tmp_path: Path) -> None:
    train(tmp_path, settings(), recordings(), RunLimits(minutes=1e-9))
    assert load_checkpoint(tmp_path)[1]["step"] == 0
    assert train(tmp_path, None, recordings(), QUIET).step == 8


def test_other_settings_do_not_overwrite_a_run(tmp_path: Path) -> None:
    train(tmp_path, settings(), recordings(), RunLimits(minutes=1e-9))
    with pytest.raises(TrainingError, match="seed: 0, asked 3"):
        train(tmp_path, settings(seed=3), recordings())


def test_the_planned_length_of_a_run_can_be_changed(tmp_path: Path) -> None:
    train(tmp_path, settings(steps=2), recordings(), QUIET)
    trainer = train(tmp_path, settings(steps=3), recordings(), QUIET)
    assert trainer.step == trainer.settings.steps == 3
    assert load_checkpoint(tmp_path)[0].steps == 3


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no run to resume"):
        train(tmp_path, None, recordings())


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(tmp_path, settings(), recordings(), RunLimits(minutes=1e-9))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is damaged"):
        train(tmp_path, None, recordings())


PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.synthetic import recordings, settings
from training.parallel import joined_world
from training.run import RunLimits, train
with joined_world() as world:
    train(Path(sys.argv[1]), settings(batch=4, **eval(sys.argv[2])), recordings(),
          RunLimits(save_minutes=0, preview_minutes=0), world=world)
"""


def test_two_processes_equal_one_with_the_same_batch(tmp_path: Path) -> None:
    run = [sys.executable, "-c", PROGRAM]
    subprocess.run([*run, str(tmp_path / "one"), "{}"], cwd=ROOT, check=True, timeout=120)
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [*torchrun, str(script), str(tmp_path / "two"), "{}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
        capture_output=True,
    )
    # Every decoder was trained, and ends the same but for the order of sums (Adam's first
    # steps are of the size of the learning rate whatever the gradient's).
    start = Trainer(settings(batch=4)).networks.state_dict()
    for name, value in weights(tmp_path / "two").items():
        torch.testing.assert_close(value, weights(tmp_path / "one")[name], rtol=0, atol=5e-4)
        if ".layers.0." in name:
            assert not torch.equal(value, start[name]), f"{name} was not trained"


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), "{'steps': 100000}"]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    before = load_checkpoint(tmp_path)[1]["step"]
    assert before > 0
    trainer = train(
        tmp_path, None, recordings(), RunLimits(minutes=0.01, preview_minutes=0, save_minutes=9)
    )
    assert trainer.step > before
    assert np.isfinite(load_bundle(tmp_path / "bundle").encoder["front.weight"]).all()


def test_sigterm_saves_and_ends_in_order(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), "{'steps': 100000}"]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert (tmp_path / "bundle/manifest.json").exists()
