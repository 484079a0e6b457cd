"""The GPU benchmark runs to its end and writes what it says; its times mean nothing here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import gpu
from model.errors import BackendUnavailable
from tests.interpreted.networks import shape


def test_it_checks_times_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "RUNS", 2)
    monkeypatch.setattr(gpu, "config_of_shape", lambda _name: shape(16, 2))
    path = tmp_path / "gpu.json"
    options = ["--shape", "2/16/16", "--streams", "2", "--hops", "1", "--json", str(path)]
    result = CliRunner().invoke(gpu.app, options)
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())["results"]
    assert [row["sampler"] for row in rows] == ["persistent", "fused_layer"]
    for row in rows:
        assert 0 < row["largest_error"] < 0.01
        assert row["samples_per_s_min"] <= row["samples_per_s"] <= row["samples_per_s_max"]
        assert row["us_per_sample"] == pytest.approx(2e6 / row["samples_per_s"])
        assert row["us_per_stage"] == pytest.approx(
            row["us_per_sample"] / {"persistent": 7, "fused_layer": 4}[row["sampler"]]
        )
        assert 0 < row["fraction_of_floor"] < 1


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise BackendUnavailable("no GPU")

    monkeypatch.setattr(gpu, "find_device", none)
    result = CliRunner().invoke(gpu.app, [])
    assert result.exit_code == 1
    assert result.output.strip() == "benchmarks.gpu: no GPU"


def test_a_sampler_that_is_wrong_is_an_error_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "RUNS", 1)
    monkeypatch.setattr(gpu, "config_of_shape", lambda _name: shape(16, 2))
    monkeypatch.setattr(gpu.Check, "largest_error", lambda *_: float("nan"))
    path = tmp_path / "gpu.json"
    options = ["--shape", "2/16/16", "--streams", "1", "--hops", "1", "--json", str(path)]
    result = CliRunner().invoke(gpu.app, options)
    assert result.exit_code == 1
    assert "persistent is wrong for 2/16/16 and 1 streams" in result.output
    assert len(json.loads(path.read_text())["results"]) == 2
