"""``umt bench gpu`` runs to its end and writes what it says; its times mean nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import gpu, gpu_figures
from bridge.cli import main
from model.errors import BackendUnavailable
from model.reference import ReferenceDecoder
from tests.concurrent_grid import concurrent_grid
from tests.interpreted.networks import RoundingReference, shape

SMALL = ("bench", "gpu", "--shape", "2/16/16", "--hops", "1")
DRAWN = ("--sampler", "persistent", "--sampler", "fused_layer")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two timed runs of hops of three samples."""
    monkeypatch.setattr(gpu, "RUNS", 2)
    right = gpu.config_of_shape
    monkeypatch.setattr(
        gpu, "config_of_shape", lambda name: shape(16, 2) if name == "2/16/16" else right(name)
    )


def written(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_it_checks_times_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "gpu.json"
    assert main([*SMALL, "--streams", "2", "--json", str(path)]) == 0
    report = written(path)
    assert [row["sampler"] for row in report["results"]] == ["persistent", "fused_layer"]
    for row in report["results"]:
        assert row["right"]
        assert 0 < row["largest_error"] < 0.01
        assert row["samples_per_s_min"] <= row["samples_per_s"] <= row["samples_per_s_max"]
        assert row["us_per_sample"] == pytest.approx(2e6 / row["samples_per_s"])
        assert row["us_per_stage"] == pytest.approx(
            row["us_per_sample"] / {"persistent": 7, "fused_layer": 4}[row["sampler"]]
        )
        assert 0 < row["fraction_of_roofline"] < 1
        assert row["fraction_of_roofline"] == pytest.approx(
            row["samples_per_s"] / row["roofline"]["floor_samples_per_s"]
        )
        assert row["gmac_per_s"] > 0
        assert {"commit", "machine", "backend", "dtype", "threads", "baselines"} <= row.keys()
    # What the interpreter cannot run is told, not passed over.
    assert report["left_out"] == {
        f"2/16/16 {name}": "cannot run on this device"
        for name in ("pipeline x 2", "torch-eager x 1", "torch-compile x 1")
    }
    said = capsys.readouterr()
    assert "2/16/16 pipeline x 2 cannot run on this device" in said.err
    assert said.out.count("us a sample") == 2
    assert list(path.parent.iterdir()) == [path]


def test_every_row_stands_beside_the_baselines_of_its_shape() -> None:
    def row(shape: str, sampler: str, rate: float) -> dict[str, Any]:
        rates = {f"samples_per_s{end}": rate for end in ("", "_min", "_max")}
        return {"shape": shape, "sampler": sampler, **rates}

    rows = [row("a", "persistent", 30.0), row("b", "persistent", 8.0), row("a", "torch-eager", 5.0)]
    failed = {"shape": "a", "sampler": "torch-compile", "failed": "no compiler"}
    gpu.compare([*rows, failed])
    ratios = [{name: at["ratio"] for name, at in one["baselines"].items()} for one in rows]
    assert ratios == [{"torch-eager": 6.0}, {}, {"torch-eager": 1.0}]
    assert "baselines" not in failed


def test_the_module_alone_says_what_to_run() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "run umt bench gpu" in run.stderr


def test_one_that_is_wrong_is_an_error_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu.Check, "largest_error", lambda *_: float("nan"))
    path = tmp_path / "gpu.json"
    assert main([*SMALL, *DRAWN, "--streams", "1", "--json", str(path)]) == 1
    said = capsys.readouterr()
    assert said.out.count("WRONG") == 2
    assert "2 of 2 rows are wrong or failed: 2/16/16 persistent x 1, 2/16/16 fused" in said.err
    assert [row["right"] for row in written(path)["results"]] == [False, False]
    # What is no number is null: JSON has no NaN.
    assert [row["largest_error"] for row in written(path)["results"]] == [None, None]
    assert "NaN" not in path.read_text()


def test_one_that_fails_keeps_no_other_from_being_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Triton Error [CUDA]:\n  an illegal memory access")

    monkeypatch.setattr(gpu.Persistent, "run", refuse)
    path = tmp_path / "gpu.json"
    assert main([*SMALL, *DRAWN, "--streams", "1", "--json", str(path)]) == 1
    first, second = written(path)["results"]
    assert first["failed"] == "RuntimeError: Triton Error [CUDA]: an illegal memory access"
    assert second["right"]
    assert "1 of 2 rows are wrong or failed: 2/16/16 persistent x 1" in capsys.readouterr().err


def test_what_was_not_begun_in_time_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gpu.json"
    ticks = iter([0.0, 0.0, 1e6])
    monkeypatch.setattr("bridge.commands.bench_gpu.time.monotonic", lambda: next(ticks, 1e6))
    assert main([*SMALL, *DRAWN, "--streams", "1", "--json", str(path)]) == 0
    report = written(path)
    assert len(report["results"]) == 1
    assert report["left_out"] == {"2/16/16 fused_layer x 1": "was not begun within 5 minutes"}
    assert "fused_layer x 1 was not begun within 5 minutes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        (("--shape", "2/16/16", "--shape", "bad"), 2, "'bad'"),
        (("--sampler", "quick"), 2, "no sampler 'quick'; choose one of persistent, "),
        (("--streams", "0"), 2, "--streams"),
        (("--json", "/dev/null/gpu.json"), 1, "/dev/null is not a folder"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_measured(
    options: tuple[str, ...],
    status: int,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gpu, "measured", lambda *_: pytest.fail("something was measured"))
    assert main([*SMALL, *options]) == status
    said = capsys.readouterr()
    assert complaint in said.err
    assert said.err.count("\n") == 1


def test_figures_of_the_device_that_fail_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise RuntimeError("too many blocks")

    monkeypatch.setattr(gpu_figures, "device_figures", refuse)
    monkeypatch.setattr(gpu, "measured", lambda *_: {"us_per_sample": 1.0, "x_realtime": 1.0})
    path = tmp_path / "gpu.json"
    assert main([*SMALL, *DRAWN, "--streams", "1", "--json", str(path)]) == 1
    assert written(path)["measured"] == {"failed": "RuntimeError: too many blocks"}
    assert "a launch could not be measured: RuntimeError: too many" in capsys.readouterr().err


def test_an_exchange_ends_in_any_order() -> None:
    for seed in range(5):
        words = torch.zeros(2, 32, dtype=torch.int64).view(torch.uint64)
        with concurrent_grid(seed):
            gpu_figures.ping[(2,)](words, 1, 3)
        assert (words.view(torch.int64) >> 32 == 3).all()


def test_the_largest_error_lies_between_rounding_and_a_fault() -> None:
    """The least of a kernel's faults that was thought of: the last layer's bias left out."""
    check = gpu.Check.of("20/64/64")

    def error(reference: ReferenceDecoder) -> float:
        logits = reference.teacher_force(check.latents, check.codes, reference.initial_state())
        return float(np.abs(logits - check.logits).max())

    assert error(RoundingReference(check.config, check.weights, head=True)) < 0.01
    faulty = {**check.weights, "layers.19.current.bias": np.zeros(128, np.float32)}
    assert error(ReferenceDecoder(check.config, faulty, np.float32)) > gpu.LARGEST_ERROR


def test_one_that_never_ends_is_ended_and_loses_no_row(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    program = f"""
from itertools import count
from threading import Event
from benchmarks import gpu
from bridge.cli import main
gpu.longest_row_s = lambda: 0.5
calls = count()
gpu.measured = lambda task, hops: (
    Event().wait() if next(calls) else dict(us_per_sample=1.0, x_realtime=1.0)
)
main({[*SMALL, *DRAWN, "--streams", "1", "--json", str(path)]})
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1
    assert "Timeout" in run.stderr
    assert len(written(path)["results"]) == 1


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> None:
        raise BackendUnavailable("no GPU")

    monkeypatch.setattr(gpu, "find_device", none)
    assert main(["bench", "gpu"]) == 1
    assert capsys.readouterr().err == "umt: no GPU\n"
