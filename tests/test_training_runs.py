"""Runs: resumed exactly, safe from kills, and the same over two processes as over one."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model.bundle import Domain, load_bundle  # noqa: E402
from model.config import profile  # noqa: E402
from model.errors import DataError, TrainingError  # noqa: E402
from tests.synthetic import recordings, settings  # noqa: E402
from training import run  # noqa: E402
from training.batches import Batch  # noqa: E402
from training.checkpoint import VERSION, load_checkpoint, save_checkpoint  # noqa: E402
from training.export import begin_with, to_bundle  # noqa: E402
from training.journal import Journal  # noqa: E402
from training.run import RunLimits, train  # noqa: E402
from training.trainer import StepReport, Trainer  # noqa: E402

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[1]
QUIET = RunLimits(evaluate_steps=4, log_steps=2)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    networks: dict[str, torch.Tensor] = load_checkpoint(folder)[1]["networks"]
    return networks


def assert_same_state(one: Path, other: Path) -> None:
    """Networks, averages and optimisers are equal to the last bit."""
    state, expected = load_checkpoint(one)[1], load_checkpoint(other)[1]
    for part in ("step", "networks", "average", "optimisers"):
        torch.testing.assert_close(state[part], expected[part], rtol=0, atol=0)


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    # Over the encoder's end, too, and with all that a past may have.
    wrong = {"teacher_noise": 3.0, "teacher_off_level": 0.5, "teacher_remnants": 0.5}
    planned = settings(shared_steps=3, encoder_steps=6, content_weight=0.5, **wrong)
    train(tmp_path / "whole", planned, recordings(), QUIET)

    class Stop(Exception):
        pass

    def stop_at_5(report: object, held_out: object) -> None:
        if report.step == 5:  # type: ignore[attr-defined]
            raise Stop

    # The kill loses what came after the last checkpoint, which the resumed run does again.
    always_save = RunLimits(evaluate_steps=4, log_steps=2, save_minutes=0)
    with pytest.raises(Stop):
        train(tmp_path / "broken", planned, recordings(), always_save, stop_at_5)
    assert load_checkpoint(tmp_path / "broken")[1]["step"] == 4
    train(tmp_path / "broken", None, recordings(), QUIET)
    assert_same_state(tmp_path / "broken", tmp_path / "whole")
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


def test_the_minutes_of_earlier_sittings_count(tmp_path: Path) -> None:
    train(tmp_path, settings(), recordings(), RunLimits(minutes=1e-9))
    planned, state = load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, planned, state | {"minutes": 90.0})
    train(tmp_path, None, recordings(), QUIET)
    assert 90 < load_checkpoint(tmp_path)[1]["minutes"] < 100
    assert load_bundle(tmp_path / "bundle").about["training"]["minutes"] >= 90


def test_a_run_can_begin_with_the_weights_of_another(tmp_path: Path) -> None:
    first = train(tmp_path / "first", settings(steps=6), recordings(), QUIET)
    names = first.settings.domains
    asked = settings(steps=1, seed=5, domains=(names[1], "new"))
    begun = Trainer(asked)
    begun.start_from(*load_checkpoint(tmp_path / "first"))
    known = first.average.networks
    for ours in (begun.networks, begun.average.networks):
        for one, other in (
            (ours.encoder, known.encoder),
            (ours.decoders[0], known.decoders[1]),
            (ours.decoders[1], known.decoders[0]),
        ):
            torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_a_run_can_begin_with_the_encoder_alone_of_another(tmp_path: Path) -> None:
    first = train(tmp_path / "first", settings(steps=6), recordings(), QUIET)
    begun = Trainer(settings(seed=5, fresh_decoders=True))
    fresh = deepcopy(begun.networks.decoders.state_dict())
    begun.start_from(*load_checkpoint(tmp_path / "first"))
    encoder = first.average.networks.encoder.state_dict()
    for ours in (begun.networks, begun.average.networks):
        torch.testing.assert_close(ours.encoder.state_dict(), encoder, rtol=0, atol=0)
        torch.testing.assert_close(ours.decoders.state_dict(), fresh, rtol=0, atol=0)
    # Teachers are not averaged: the latest is the one that has learnt.
    content = first.networks.content.state_dict()
    torch.testing.assert_close(begun.networks.content.state_dict(), content, rtol=0, atol=0)


@pytest.mark.parametrize("fresh_decoders", [False, True])
def test_a_run_can_begin_with_a_bundle(tmp_path: Path, fresh_decoders: bool) -> None:
    first = train(tmp_path / "first", settings(steps=6), recordings(), QUIET)
    bundle = load_bundle(tmp_path / "first" / "bundle")
    names = first.settings.domains
    asked = settings(seed=5, domains=(names[1], "new"), fresh_decoders=fresh_decoders)
    begun = Trainer(asked)
    rows = {name: Domain(name, "", -21.0, "none") for name in asked.domains}
    fresh = to_bundle(begun, rows, {}).decoders
    begin_with(bundle, begun)
    ours = to_bundle(begun, rows, {})
    expected = {names[1]: bundle.decoders[names[1]], "new": bundle.decoders[names[0]]}
    if fresh_decoders:
        expected = fresh
    np.testing.assert_equal(dict(ours.encoder), dict(bundle.encoder))
    for name in asked.domains:
        np.testing.assert_equal(dict(ours.decoders[name]), dict(expected[name]))


def test_a_run_cannot_begin_with_a_bundle_of_another_shape(tmp_path: Path) -> None:
    train(tmp_path / "first", settings(steps=1), recordings(), QUIET)
    bundle = load_bundle(tmp_path / "first" / "bundle")
    with pytest.raises(TrainingError, match="live network cannot start from the tiny network"):
        begin_with(bundle, Trainer(settings(config=profile("live"))))


def test_a_run_says_what_it_started_from(tmp_path: Path) -> None:
    train(tmp_path / "first", settings(steps=2), recordings(), QUIET)
    train(
        tmp_path / "second", settings(steps=1), recordings(), QUIET, start_from=tmp_path / "first"
    )
    about = load_bundle(tmp_path / "second" / "bundle").about["training"]
    assert about["started_from"].startswith("2 steps on ")
    resumed = train(tmp_path / "second", None, recordings(), QUIET)
    assert resumed.settings.started_from == about["started_from"]


def test_a_run_cannot_begin_with_a_network_of_another_shape(tmp_path: Path) -> None:
    train(tmp_path / "first", settings(steps=1), recordings(), QUIET)
    with pytest.raises(TrainingError, match="tiny network of that run"):
        train(
            tmp_path / "second",
            settings(steps=1, config=profile("live")),
            recordings(),
            QUIET,
            start_from=tmp_path / "first",
        )


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no run to resume"):
        train(tmp_path / "run", None, recordings())
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_start_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        train(tmp_path / "run", settings(segment_hops=1000), recordings())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("spoilt", ["loss", "gradient_norm"])
def test_a_run_that_diverges_keeps_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: str
) -> None:
    honest = Trainer.train

    def diverge(trainer: Trainer, batch: Batch) -> StepReport:
        report = honest(trainer, batch)
        return replace(report, **{spoilt: math.nan}) if report.step >= 3 else report

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train", diverge)
        always_save = RunLimits(save_minutes=0)
        with pytest.raises(TrainingError, match=r"step 3 .*resume it with a lower --learning-rate"):
            train(tmp_path / "run", settings(), recordings(), always_save)
        with pytest.raises(TrainingError, match="start again with a lower"):
            train(tmp_path / "unsaved", settings(), recordings(), QUIET)
    assert load_checkpoint(tmp_path / "run")[1]["step"] == 2
    trainer = train(tmp_path / "run", settings(learning_rate=1e-4), recordings(), QUIET)
    assert trainer.step == 8
    assert load_checkpoint(tmp_path / "run")[0].learning_rate == 1e-4


def test_a_signal_while_a_run_is_saved_does_not_cut_that_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = run.export_bundle

    def interrupted(*arguments: Any) -> Path:
        os.kill(os.getpid(), signal.SIGTERM)
        return honest(*arguments)

    def end(number: int, frame: object) -> None:
        raise TimeoutError("the signal got through")

    monkeypatch.setattr(run, "export_bundle", interrupted)
    before = signal.signal(signal.SIGTERM, end)
    try:
        train(tmp_path, settings(steps=1), recordings(), QUIET)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert load_bundle(tmp_path / "bundle").domain_names == ("flat", "soft")


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "sprung"))


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"version": 1, "settings": Trap(tmp_path / "sprung")}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="damaged"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    train(tmp_path, settings(), recordings(), RunLimits(minutes=1e-9))
    planned, state = load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, planned, state | {"version": VERSION + 1})
    refusal = f"has version {VERSION + 1}, this program reads {VERSION}"
    with pytest.raises(TrainingError, match=refusal):
        load_checkpoint(tmp_path)


def test_an_earlier_versions_run_lends_its_weights_but_is_not_resumed(tmp_path: Path) -> None:
    train(tmp_path, settings(), recordings(), RunLimits(minutes=1e-9))
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    former = state["settings"] | {"teacher_gain": 3.0, "teacher_swell": 6.0}
    torch.save(state | {"version": VERSION - 1, "settings": former}, path)
    with pytest.raises(TrainingError, match="earlier version .* --start-from"):
        train(tmp_path, None, recordings())
    Trainer(settings()).start_from(*load_checkpoint(tmp_path))


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
from training import fused
from training.parallel import joined_world
from training.run import RunLimits, train
# A step is as long in directions where the gradient is mere rounding: keep that small.
fused.best_dtype = lambda: torch.float32
with joined_world() as world:
    trainer = train(Path(sys.argv[1]), settings(batch=4, **eval(sys.argv[2])), recordings(),
                    RunLimits(save_minutes=0, preview_minutes=0, log_steps=1), world=world)
"""

NO_THREAD_IS_LEFT = """
names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
assert not any("gloo" in name for name in names), names
"""


def torchrun(script: Path, folder: Path, changes: str) -> None:
    """Run ``script`` in two processes; fails if either does."""
    launch = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
    said = subprocess.run(
        [*launch, str(script), str(folder), changes],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=240,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr


def test_two_processes_equal_one_with_the_same_batch(tmp_path: Path) -> None:
    # A rate so high that the weights move far more in a few steps than the order of sums can.
    changes = "{'learning_rate': 0.03}"
    alone = [sys.executable, "-c", PROGRAM, str(tmp_path / "one"), changes]
    subprocess.run(alone, cwd=ROOT, check=True, timeout=120)
    script = tmp_path / "program.py"
    # A thread that outlives the group can meet an interpreter that is going, and abort.
    script.write_text(PROGRAM + NO_THREAD_IS_LEFT)
    torchrun(script, tmp_path / "two", changes)
    start = Trainer(settings(batch=4)).networks.state_dict()
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for part in ("encoder.", "decoders.0.", "decoders.1.", "confusion."):
        names = [name for name in start if name.startswith(part)]
        moved, apart = (
            torch.cat([(a[n] - b[n]).flatten() for n in names]).norm()
            for a, b in ((one, start), (one, two))
        )
        assert moved > 0.1, f"{part} was not trained"
        assert apart < 0.05 * moved, f"{part} differs"


ANOTHER_KIND_OF_MACHINE = """
import os, torch
if os.environ.get("RANK") == "1":
    honest = torch.manual_seed
    torch.manual_seed = lambda seed: honest(seed + 1)
"""


@pytest.mark.parametrize("start", ["nothing", "a run"])
def test_processes_that_draw_other_first_weights_begin_with_the_leading_ones(
    tmp_path: Path, start: str
) -> None:
    script = tmp_path / "program.py"
    script.write_text(ANOTHER_KIND_OF_MACHINE + PROGRAM)
    folder = tmp_path / "two"
    if start == "a run":
        # Its optimisers begin anew; the confusion network is drawn afresh by each process.
        train(folder / "first", settings(batch=4, steps=2), recordings(), QUIET)
        script.write_text(
            ANOTHER_KIND_OF_MACHINE
            + PROGRAM.replace("world=world", 'world=world, start_from=Path(sys.argv[1]) / "first"')
        )
    script.write_text(script.read_text() + AND_COMPARE)
    torchrun(script, folder, "{'steps': 3}")
    one, other = (torch.load(folder / f"rank{rank}.pt") for rank in (0, 1))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


AND_COMPARE = """
    torch.save(trainer.networks.state_dict(), Path(sys.argv[1]) / f"rank{world.rank}.pt")
"""

STOPPED_PROGRAM = """
import os, signal
from training.trainer import Trainer
honest = Trainer.train
def train_and_stop(trainer, batch):
    report = honest(trainer, batch)
    if trainer.world.rank == 1 and trainer.step == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return report
Trainer.train = train_and_stop
"""


def test_a_signal_to_one_process_ends_all_in_order(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(STOPPED_PROGRAM + PROGRAM)
    torchrun(script, tmp_path / "run", "{'steps': 1000}")
    assert load_checkpoint(tmp_path / "run")[1]["step"] == 3
    assert (tmp_path / "run/bundle/manifest.json").exists()


DYING_PROGRAM = """
import os, signal
from training.trainer import Trainer
honest = Trainer._descend
def descend_or_die(trainer, loss, taught):
    # The confusion network has moved already.
    if trainer.step == 7 and len(taught) > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return honest(trainer, loss, taught)
Trainer._descend = descend_or_die
"""


def test_a_run_killed_within_a_step_resumes_to_the_same_loss_curve(tmp_path: Path) -> None:
    def start(program: str, folder: str) -> int:
        command = [sys.executable, "-c", program, str(tmp_path / folder), "{'steps': 11}"]
        return subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode

    assert start(DYING_PROGRAM + PROGRAM, "killed") == -signal.SIGKILL
    assert load_checkpoint(tmp_path / "killed")[1]["step"] == 7
    # A kill may also cut a line of the log short.
    with (tmp_path / "killed/log.jsonl").open("a") as log:
        log.write('{"step": 8, "lo')
    assert start(PROGRAM, "killed") == start(PROGRAM, "whole") == 0
    assert_same_state(tmp_path / "killed", tmp_path / "whole")
    curves = [
        [{k: v for k, v in row.items() if k != "minutes"} for row in log_of(tmp_path / folder)]
        for folder in ("killed", "whole")
    ]
    assert curves[0] == curves[1]
    assert [row["step"] for row in curves[0]] == [*range(1, 12), 11]


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@contextmanager
def a_full_disk(bytes_left: int = 0) -> Iterator[None]:
    """No file of this process may grow beyond ``bytes_left``."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_while_a_run_is_saved_loses_nothing(tmp_path: Path) -> None:
    planned = settings(average_decay=0.9)
    train(tmp_path / "whole", planned, recordings(), QUIET)
    disk = ExitStack()

    def fill_at_5(report: StepReport, held_out: object) -> None:
        if report.step == 5:
            disk.enter_context(a_full_disk(30_000))

    limits = replace(QUIET, save_minutes=0)
    with (
        disk,
        pytest.raises(TrainingError, match=r"checkpoint\.pt cannot be written \(File too la"),
    ):
        train(tmp_path / "filled", planned, recordings(), limits, fill_at_5)
    assert load_checkpoint(tmp_path / "filled")[1]["step"] == 4
    assert not list((tmp_path / "filled").glob(".*"))
    train(tmp_path / "filled", None, recordings(), QUIET)
    assert_same_state(tmp_path / "filled", tmp_path / "whole")


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    journal.write(step=1, loss=5.0)
    for write in (lambda: journal.write(step=2), journal.plot, lambda: Journal(tmp_path, 1)):
        with a_full_disk(), pytest.raises(TrainingError, match=r"(log\.jsonl|loss\.png) cannot be"):
            write()
    assert [row["step"] for row in journal.rows()] == [1]


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
