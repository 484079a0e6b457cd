"""Benchmarks: known counts, statistics, what a measurement holds, and baselines that are right."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import commit
from benchmarks.baselines import BASELINES, missing_packages, open_baselines
from benchmarks.commit import current_commit
from benchmarks.measure import (
    Effort,
    measure_chain,
    measure_decoder,
    measure_encoder,
    sampling_threads,
)
from benchmarks.measurement import BaselineRate, Measurement
from benchmarks.roofline import (
    Limits,
    peak_macs_per_s,
    read_bytes_per_s,
    roofline,
    written_buffer,
)
from benchmarks.shapes import (
    DEFAULT_SHAPES,
    config_of_shape,
    decoder_bytes,
    decoder_macs,
    decoder_shape,
    encoder_bytes,
    encoder_macs,
)
from benchmarks.timing import Job, hop_statistics, rates
from bridge import bench_plot
from model.bundle import random_bundle
from model.config import ModelConfig, profile
from model.errors import BackendUnavailable, ConfigError
from model.reference import ReferenceDecoder
from tests.command_line import umt

pytestmark = pytest.mark.alone

BRIEF = Effort(runs=3, seconds=0.01)
SHORT_S = 0.001
CONTRACT = {
    "commit", "machine", "part", "shape", "backend", "dtype", "threads", "streams", "runs",
    "samples_per_s", "samples_per_s_min", "samples_per_s_max", "x_realtime", "gmac_per_s",
    "roofline", "fraction_of_roofline", "baselines",
}  # fmt: skip
TINY_SHAPE = ("--shape", "12/16/32", "--seconds", "0.01", "--runs", 1)


@pytest.fixture(autouse=True)
def short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is looked at here, so none needs to be good."""
    monkeypatch.setattr("benchmarks.measure._BASELINE_S", SHORT_S)
    for name in (peak_macs_per_s, read_bytes_per_s):
        monkeypatch.setattr(name, "__defaults__", (*(name.__defaults__ or ())[:-1], SHORT_S))


@pytest.fixture(scope="module")
def small() -> ModelConfig:
    """Odd enough to tell channels apart, and longer than one block of dilations."""
    return replace(config_of_shape("11/16/32"), hop_samples=100, latent_channels=8)


@pytest.fixture(scope="module")
def measured(small: ModelConfig) -> Measurement:
    return measure_decoder(
        small, dtype="float32", streams=2, effort=BRIEF, baselines=("numba-loops",)
    )


def test_multiply_adds_of_the_paper_are_counted() -> None:
    paper = profile("paper")
    # A layer: two taps of 256 x 128, and 256 x 128 to both paths; then 256 x 128 and 256 x 256.
    assert decoder_macs(paper) == 40 * 3 * 256 * 128 + 256 * 128 + 256 * 256
    # A layer: three taps and a 1x1 of 128 x 128; the front has three taps of one channel.
    assert encoder_macs(paper) == 30 * 4 * 128 * 128 + 3 * 128


def test_bytes_are_multiply_adds_times_the_weights_size() -> None:
    paper = profile("paper")
    assert decoder_bytes(paper, "int8") == decoder_macs(paper)
    assert decoder_bytes(paper, "float32") == 4 * decoder_macs(paper)
    assert encoder_bytes(paper, "int8") == (30 * 4 * 128 * 128 + 3 * 128) / 800
    assert encoder_bytes(paper, "float32") == 4 * encoder_bytes(paper, "int8")


def test_past_taps_are_read_once_for_as_many_samples_as_the_dilation_allows() -> None:
    paper = profile("paper")
    past = 256 * 128
    rest = decoder_macs(paper) - 40 * past
    # Dilations 1, 2 and 4 to 512, four times over.
    assert decoder_bytes(paper, "int8", ahead=4) == rest + 4 * past * (1 + 1 / 2 + 8 / 4)


def test_a_shape_has_dilations_to_512_and_begins_again_after_ten_layers() -> None:
    config = config_of_shape("26/128/128")
    assert config.decoder.dilations == (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) * 2 + (
        1, 2, 4, 8, 16, 32,
    )  # fmt: skip
    assert config.decoder.head_channels == 256
    assert config.decoder.receptive_field == 1 + 2 * 1023 + 63


def test_56_layers_are_the_blocks_of_14_that_the_authors_trained() -> None:
    decoder = config_of_shape("56/128/128").decoder
    assert decoder.dilations == tuple(2**i for i in range(14)) * 4
    assert decoder.receptive_field == 1 + 4 * 16383


@pytest.mark.parametrize("name", ["live", "paper"])
def test_a_profiles_own_shape_gives_its_decoder(name: str) -> None:
    config = profile(name)
    again = config_of_shape(decoder_shape(config.decoder))
    assert again.decoder.dilations == config.decoder.dilations
    assert decoder_macs(again) == decoder_macs(config)


def test_the_default_shapes_can_be_built() -> None:
    assert [decoder_shape(config_of_shape(name).decoder) for name in DEFAULT_SHAPES] == list(
        DEFAULT_SHAPES
    )


@pytest.mark.parametrize("shape", ["20/64", "a/64/64", "0/64/64", "20/64/64/2", "", "20/-64/64"])
def test_what_is_no_shape_is_refused(shape: str) -> None:
    with pytest.raises(ConfigError, match="20/64/128"):
        config_of_shape(shape)


def test_the_floor_is_the_slower_of_multiplying_and_reading() -> None:
    assert roofline(2e6, 1e6, peak=1e11, bandwidth=1e11).floor_samples_per_s == pytest.approx(
        50_000
    )
    bound = roofline(1e6, 2e6, peak=1e11, bandwidth=1e11)
    assert bound.floor_samples_per_s == pytest.approx(50_000)
    assert (bound.peak_gmac_per_s, bound.read_gb_per_s, bound.weight_mb) == (100, 100, 2)


def test_what_is_read_for_bandwidth_is_memory_of_its_own() -> None:
    # Never written, it would be one page of zeros that any size reads from the first cache.
    buffer = written_buffer(100 * 4096)
    assert buffer.nbytes == 100 * 4096
    assert buffer.all()


def test_limits_are_the_best_of_all_times(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks, bandwidths = iter([5.0, 9.0, 7.0]), iter([4.0, 2.0, 3.0])
    monkeypatch.setattr("benchmarks.roofline.peak_macs_per_s", lambda *_: next(peaks))
    monkeypatch.setattr("benchmarks.roofline.read_bytes_per_s", lambda *_: next(bandwidths))
    limits = Limits("int8", 2, 1000)
    for _ in range(3):
        limits.measure()
    assert (limits.peak, limits.bandwidth) == (9.0, 4.0)


@pytest.mark.parametrize(
    ("measure", "size"),
    [
        # What a sample reads of the decoder; all weights of the encoder, however long a hop.
        (measure_decoder, decoder_bytes(profile("tiny"), "float32", ahead=16)),
        (measure_encoder, 4 * encoder_macs(profile("tiny"))),
    ],
)
def test_bandwidth_is_measured_at_the_size_of_the_weights(
    measure: Any, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, int]] = []

    def read(weight_bytes: int, threads: int) -> float:
        asked.append((weight_bytes, threads))
        return 1e9

    monkeypatch.setattr("benchmarks.roofline.read_bytes_per_s", read)
    measure(profile("tiny"), dtype="float32", effort=BRIEF)
    # Before and after what they bound.
    assert asked == [(round(size), 1)] * 2


@pytest.mark.parametrize("threads", [1, 2])
def test_the_machine_multiplies_and_reads_at_some_rate(threads: int) -> None:
    for dtype in ("int8", "float32"):
        assert np.isfinite(peak_macs_per_s(dtype, threads, seconds=0.001))
    assert np.isfinite(read_bytes_per_s(100_001, threads, seconds=0.001))


def _job(name: str, pieces: list[int], calls: list[str]) -> Job:
    def run() -> Iterator[int]:
        calls.append(name)
        yield from pieces

    return Job(sum(pieces), run)


def test_jobs_take_turns() -> None:
    calls: list[str] = []
    jobs = {name: _job(name, [3, 4], calls) for name in ("ours", "theirs")}
    found = rates(jobs, 3)
    assert calls == ["ours", "theirs"] * 3
    assert {name: len(measured) for name, measured in found.items()} == {"ours": 3, "theirs": 3}


def test_a_rate_is_samples_over_the_time_of_all_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that advances by a second whenever it is read: of two reads a piece, one is timed.
    clock = iter(range(100))
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: float(next(clock)))
    assert rates({"a": _job("a", [6, 6, 6], [])}, 2) == {"a": [18 / 4, 18 / 4]}


def test_progress_grows_to_one_after_every_piece() -> None:
    told: list[float] = []
    rates({"a": _job("a", [1, 3], []), "b": _job("b", [4], [])}, 2, told.append)
    assert told == pytest.approx([1 / 16, 1 / 4, 1 / 2, 9 / 16, 3 / 4, 1])


@pytest.mark.parametrize("measure", [measure_decoder, measure_encoder, measure_chain])
def test_long_runs_tell_their_progress(measure: Any) -> None:
    told: list[float] = []
    measure(profile("tiny"), effort=Effort(runs=1, seconds=2.5), progress=told.append)
    assert told == pytest.approx([0.4, 0.8, 1.0])


def test_rates_become_median_minimum_and_maximum(
    small: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"ours": [32_000.0, 8_000.0, 48_000.0]}
    monkeypatch.setattr("benchmarks.measure.rates", lambda *_: found)
    row = measure_decoder(small, effort=BRIEF)
    assert (row.samples_per_s, row.samples_per_s_min, row.samples_per_s_max) == (
        32_000, 8_000, 48_000,
    )  # fmt: skip
    assert row.runs == 3
    assert row.x_realtime == 2.0
    assert row.gmac_per_s == round(32_000 * decoder_macs(small) / 1e9, 2)
    expected = 32_000 / row.roofline.floor_samples_per_s
    assert row.fraction_of_roofline == pytest.approx(expected, abs=1e-3)


def test_hop_times_become_percentiles() -> None:
    hops = [i / 1000 for i in range(101)]
    assert hop_statistics(hops) == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}


def test_a_measurement_keeps_the_contract(measured: Measurement) -> None:
    row = json.loads(json.dumps(measured.to_dict()))
    assert row.keys() == CONTRACT
    assert row["commit"] == current_commit()
    assert row["machine"].keys() >= {"cpu", "cores", "flags"}
    assert row["roofline"].keys() == {
        "peak_gmac_per_s", "read_gb_per_s", "weight_mb", "floor_samples_per_s",
    }  # fmt: skip
    assert row["baselines"]["numba-loops"].keys() == {
        "samples_per_s", "min", "max", "ratio", "threads",
    }  # fmt: skip
    assert (row["part"], row["shape"], row["dtype"]) == ("decode", "11/16/32", "float32")
    assert (row["threads"], row["streams"], row["runs"]) == (1, 2, 3)
    assert row["samples_per_s_min"] <= row["samples_per_s"] <= row["samples_per_s_max"]


def test_an_encoder_and_a_chain_are_measured_too() -> None:
    encoder = measure_encoder(profile("tiny"), streams=2, effort=BRIEF)
    assert (encoder.part, encoder.shape, encoder.dtype) == ("encode", "4/16", "int8")
    assert encoder.to_dict().keys() == CONTRACT
    chain = measure_chain(profile("tiny"), dtype="float32", effort=BRIEF)
    assert (chain.part, chain.shape) == ("chain", "4/16+4/16/16")
    assert chain.to_dict().keys() == CONTRACT | {"hop_ms", "core_share"}
    assert chain.hop_ms is not None
    assert chain.hop_ms["hop"] == 5.0
    assert chain.hop_ms["p50"] <= chain.hop_ms["p99"] <= chain.hop_ms["max"]


def test_times_of_a_chain_are_those_of_its_timed_hops(monkeypatch: pytest.MonkeyPatch) -> None:
    hops: list[float] = []

    def keep(seconds: list[float]) -> dict[str, float]:
        hops.extend(seconds)
        return hop_statistics(seconds)

    monkeypatch.setattr("benchmarks.measure.hop_statistics", keep)
    # A clock of CPU time that advances by a second whenever it is read: one a piece.
    clock = iter(range(100))
    monkeypatch.setattr("benchmarks.measure.time.process_time", lambda: float(next(clock)))
    effort = Effort(runs=3, seconds=2.0)
    row = measure_chain(profile("tiny"), streams=2, effort=effort)
    # Hops of 5 ms; pieces of a second.
    assert len(hops) == 3 * 2 * 400
    assert row.core_share == 1.0


# Compilers and exporters warn of their own future.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_equals_the_reference(name: str) -> None:
    if missing := missing_packages(name):
        pytest.skip(f"{name} needs {' and '.join(missing)}")
    config = replace(config_of_shape("3/16/32"), hop_samples=11, latent_channels=8)
    weights = random_bundle(config, domains=("a",), seed=4).decoders["a"]
    rng = np.random.default_rng(5)
    latents = rng.normal(0, 1, (3, 8)).astype(np.float32)
    codes = rng.integers(0, 256, 33).astype(np.uint8)
    uniforms = rng.random(33, dtype=np.float32)
    reference = ReferenceDecoder(config, weights)
    logits = reference.teacher_force(latents, codes, reference.initial_state())
    drawn = reference.generate(latents, uniforms, reference.initial_state())
    with open_baselines([name], config, weights) as opened:
        # Twice: each call begins anew.
        for _ in range(2):
            baseline = opened[name]
            np.testing.assert_allclose(baseline.teacher_force(latents, codes), logits, atol=1e-4)
            np.testing.assert_array_equal(baseline.generate(latents, uniforms), drawn)
        # A run as long as its timing takes ends within a hop.
        np.testing.assert_array_equal(baseline.generate(latents, uniforms[:26]), drawn[:26])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("fast", "kept"), [(1, 1), (2, 2)])
def test_a_baseline_has_the_threads_that_suit_it(
    fast: int, kept: int, small: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(
        "benchmarks.baselines._trial_s", lambda baseline, _: abs(baseline.threads - fast)
    )
    weights = random_bundle(small, domains=("a",)).decoders["a"]
    inside: list[int] = []
    relu = torch.relu

    def spy(tensor: Any) -> Any:
        inside.append(torch.get_num_threads())
        return relu(tensor)

    monkeypatch.setattr(torch, "relu", spy)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with open_baselines(["torch-eager", "numba-loops"], small, weights, 2) as opened:
            assert opened["torch-eager"].threads == kept
            assert opened["numba-loops"].threads == 1
            opened["torch-eager"].generate(np.zeros((1, 8), np.float32), np.zeros(2, np.float32))
        assert set(inside) == {kept}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_baseline_without_its_package_says_so(
    small: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with (
        pytest.raises(BackendUnavailable, match="torch-eager needs torch"),
        open_baselines(["torch-eager"], small, {}),
    ):
        pass


@pytest.mark.parametrize(
    ("shape", "asked", "threads"),
    [("20/64/64", None, 1), ("20/128/128", None, 2), ("20/128/16", None, 1), ("2/32/64", 2, 2)],
)
def test_threads_are_as_asked_or_as_the_engine_has_them(
    shape: str, asked: int | None, threads: int
) -> None:
    assert sampling_threads(config_of_shape(shape), asked) == threads


def _commit_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(commit, "_HERE", folder)
    return commit.current_commit.__wrapped__()


def test_a_commit_is_dirty_by_program_not_by_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        # A hook of git that runs the tests points its variables at the real repository.
        monkeypatch.delenv(name)
    here = tmp_path / "benchmarks"
    program, result = here / "commit.py", here / "results" / "decode.json"
    result.parent.mkdir(parents=True)
    assert _commit_of(here, monkeypatch) == "unknown"
    program.write_text("1")
    result.write_text("1")

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init")
    # Somebody else's checkout, such as that of the project an environment lies in.
    assert _commit_of(here, monkeypatch) == "unknown"
    git("add", ".")
    git("commit", "-m", "one")
    clean = git("rev-parse", "--short=12", "HEAD")
    assert _commit_of(here, monkeypatch) == clean
    result.write_text("2")
    (tmp_path / "note").write_text("untracked")
    assert _commit_of(here, monkeypatch) == clean
    program.write_text("2")
    assert _commit_of(here, monkeypatch) == f"{clean}-dirty"


def test_bars_are_times_real_time(measured: Measurement) -> None:
    row = replace(
        measured,
        samples_per_s=32_000,
        samples_per_s_min=16_000,
        samples_per_s_max=36_000,
        baselines={"numba-loops": BaselineRate(8_000, 4_000, 8_000, 4, 1)},
    )
    ours = bench_plot.Bar("float32", 2.0, 1.0, 0.25)
    theirs = bench_plot.Bar("numba-loops", 0.5, 0.25, 0.0)
    assert bench_plot.bars([row]) == [("decode 11/16/32\n1 thread", [ours, theirs])]


def test_the_command_writes_what_it_measured(tmp_path: Path) -> None:
    results, picture = tmp_path / "new" / "decode.json", tmp_path / "decode.png"
    said = umt(
        "bench", "decode", *TINY_SHAPE, "--dtype", "float32", "--no-baselines",
        "--json", results, "--plot", picture,
    )  # fmt: skip
    assert said.status == 0, said.err
    assert "12/16/32" in said.out
    [row] = json.loads(results.read_text(encoding="utf-8"))
    assert row.keys() == CONTRACT
    assert row["baselines"] == {}
    assert picture.read_bytes().startswith(b"\x89PNG")


def _fails_with(failure: BaseException) -> Any:
    def measure(*_: object, **__: object) -> Measurement:
        raise failure

    return measure


def test_nothing_is_left_of_an_interrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.measure.measure_decoder", _fails_with(KeyboardInterrupt()))
    kept = tmp_path / "decode.json"
    kept.write_text("of before")
    said = umt("bench", "decode", *TINY_SHAPE, "--json", kept, "--plot", tmp_path / "decode.png")
    assert said.status == 130
    assert said.complaint == "umt: interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["decode.json"]
    assert kept.read_text() == "of before"


def test_what_cannot_be_written_is_found_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.measure.measure_decoder", _fails_with(AssertionError()))
    file = tmp_path / "file"
    file.write_text("")
    said = umt("bench", "decode", *TINY_SHAPE, "--json", file / "decode.json")
    assert said.status == 1
    assert "is not a folder" in said.complaint


def test_a_baseline_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.baselines.missing_packages", lambda _: ["onnx"])
    monkeypatch.setattr("benchmarks.measure.missing_packages", lambda _: ["onnx"])
    said = umt("bench", "decode", *TINY_SHAPE)
    assert said.status == 0, said.err
    assert "onnxruntime is left out: needs onnx, not installed" in said.err


@pytest.mark.parametrize("part", ["encode", "chain"])
def test_profiles_are_measured_by_name(part: str) -> None:
    said = umt("bench", part, "--profile", "tiny", "--seconds", "0.01", "--runs", 1)
    assert said.status == 0, said.err
    assert part in said.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("decode", "--shape", "20/64"), "20/64"),
        (("decode", "--shape", "20/63/64"), "multiple of 16"),
        (("decode", "--shape", "4/32/32", "--shape", "4/16/32", "--threads", "2"), "4/16/32"),
        (("decode", "--shape", "999/1024/1024"), "million weights"),
        (("decode", "--json", "a", "--plot", "a"), "name two files"),
        (("decode", "--dtype", "int4"), "int8, float32"),
        (("decode", "--threads", "0"), "threads"),
        (("decode", "--streams", "0"), "streams"),
        (("decode", "--runs", "0"), "runs"),
        (("decode", "--seconds", "nan"), "seconds"),
        (("encode", "--profile", "none"), "no profile 'none'"),
        (("chain", "--dtype", "float64"), "int8, float32"),
        (("paint",), "paint"),
    ],
)
def test_a_bad_value_is_one_line_and_status_2(arguments: tuple[str, ...], complaint: str) -> None:
    said = umt("bench", *arguments)
    assert said.status == 2
    assert complaint in said.complaint
