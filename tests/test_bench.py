"""Benchmarks: known counts, statistics, what a measurement holds, and baselines that are right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import plot
from benchmarks.baselines import BASELINES, missing_packages, open_baseline
from benchmarks.measure import (
    BaselineRate,
    Effort,
    Measurement,
    current_commit,
    hop_statistics,
    measure_chain,
    measure_decoder,
    measure_encoder,
    rates,
)
from benchmarks.roofline import peak_macs_per_s, read_bytes_per_s, roofline
from benchmarks.shapes import (
    DEFAULT_SHAPES,
    config_of_shape,
    decoder_bytes,
    decoder_macs,
    decoder_shape,
    encoder_bytes,
    encoder_macs,
)
from model.bundle import random_bundle
from model.config import ModelConfig, profile
from model.errors import BackendUnavailable, ConfigError
from model.reference import ReferenceDecoder
from tests.command_line import umt

BRIEF = Effort(runs=3, seconds=0.01)
CONTRACT = {
    "commit", "machine", "part", "shape", "backend", "dtype", "threads", "streams", "runs",
    "samples_per_s", "samples_per_s_min", "samples_per_s_max", "x_realtime", "gmac_per_s",
    "roofline", "fraction_of_roofline", "baselines",
}  # fmt: skip
TINY_SHAPE = ("--shape", "12/16/32", "--seconds", "0.01", "--runs", 1)


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


@pytest.mark.parametrize("threads", [1, 2])
def test_the_machine_multiplies_and_reads_at_some_rate(threads: int) -> None:
    for dtype in ("int8", "float32"):
        assert np.isfinite(peak_macs_per_s(dtype, threads, seconds=0.001))
    assert np.isfinite(read_bytes_per_s(100_001, threads, seconds=0.001))


def test_the_first_run_is_not_counted() -> None:
    calls: list[int] = []

    def run() -> int:
        calls.append(1)
        return 100

    assert len(rates(run, 3)) == 3
    assert len(calls) == 4
    assert len(rates(run, 3, warm_up=False)) == 3
    assert len(calls) == 7


def test_rates_become_median_minimum_and_maximum(
    small: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.measure.rates", lambda *_: [32_000.0, 8_000.0, 48_000.0])
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
    assert row["baselines"]["numba-loops"].keys() == {"samples_per_s", "min", "max", "ratio"}
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
    with open_baseline(name, config, weights) as baseline:
        # Twice: each call begins anew.
        for _ in range(2):
            logits = reference.teacher_force(latents, codes, reference.initial_state())
            np.testing.assert_allclose(baseline.teacher_force(latents, codes), logits, atol=1e-4)
            drawn = reference.generate(latents, uniforms, reference.initial_state())
            np.testing.assert_array_equal(baseline.generate(latents, uniforms), drawn)


def test_a_baseline_without_its_package_says_so(
    small: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with (
        pytest.raises(BackendUnavailable, match="torch-eager needs torch"),
        open_baseline("torch-eager", small, {}),
    ):
        pass


def test_bars_are_times_real_time(measured: Measurement) -> None:
    row = replace(
        measured, samples_per_s=32_000, baselines={"numba-loops": BaselineRate(8_000, 1, 1, 4)}
    )
    assert plot.bars([row]) == [("decode 11/16/32\n1 thread", {"float32": 2.0, "numba-loops": 0.5})]


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
