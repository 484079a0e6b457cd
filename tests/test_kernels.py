"""Kernels against numpy: products, gates, sampling, packing, the machine code, the cache."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import mulaw
from model.config import LEVELS, SILENCE
from model.errors import ConfigError
from model.reference import sample
from numba_kernels import jit
from numba_kernels.block import BLOCK_STEPS, block_product
from numba_kernels.encoder import mulaw_code
from numba_kernels.gates import exponential, gated
from numba_kernels.machine import MACHINE, describe
from numba_kernels.pack import (
    BlockMatrix,
    PackedMatrix,
    aligned,
    code_boundaries,
    pack_block,
    pack_rows,
    quantise_rows,
)
from numba_kernels.product import (
    AHEAD_ROWS,
    input_dtype,
    joined_sums,
    partial_product,
    product,
    products_ahead,
    sum_dtype,
)
from numba_kernels.sampling import draw_codes
from numba_kernels.simd import VECTOR, load, max_lanes, store, sum_lanes

ROWS = (16, 32, 48, 112, 128, 144, 240, 272)
X86 = platform.machine().lower() in ("x86_64", "amd64")
ONE = np.float32(1.0)


@numba.njit(nogil=True)
def run_product(out: Any, matrix: Any, layer: Any, inputs: Any, factor: Any, shifts: Any) -> None:
    product(out, 0, matrix, layer, inputs, 0, factor, shifts, 3)


@numba.njit
def run_ahead(out: Any, matrix: Any, inputs: Any, steps: Any, shifts: Any) -> None:
    products_ahead(out, 5, matrix, 1, inputs, steps, shifts, 3)


@numba.njit
def run_parts(out: Any, matrix: Any, inputs: Any, sums: Any, split: Any, shifts: Any) -> None:
    rows, depth = matrix.weights.shape[1:]
    partial_product(sums, 1, matrix, 1, inputs, 0, depth, 0, split)
    partial_product(sums, 1 + rows, matrix, 1, inputs, 0, depth, split, depth)
    for i in range(0, rows, VECTOR):
        shift = load(shifts, i, VECTOR)
        offsets, scales = matrix.offsets, matrix.scales
        whole = joined_sums(sums, 1 + i, 1 + rows + i, offsets, scales, rows + i, shift)
        store(out, i, whole)


def as_inputs(values: np.ndarray) -> np.ndarray:
    """int16 values (..., depth) as this machine's products take them, flat."""
    if input_dtype(np.int8) == np.int16:
        return values.reshape(-1)
    high = (values.astype(np.int32) + 32768) >> 8
    return np.stack([high, values & 255], axis=-2).astype(np.uint8).reshape(-1)


@numba.njit
def run_exponential(values: Any) -> None:
    for i in range(0, values.size, VECTOR):
        store(values, i, exponential(load(values, i, VECTOR)))


@numba.njit
def run_gated(filtered: Any, gate: Any, out: Any) -> None:
    for i in range(0, out.size, VECTOR):
        store(out, i, gated(load(filtered, i, VECTOR), load(gate, i, VECTOR)))


@numba.njit
def run_folds(values: Any) -> Any:
    return sum_lanes(load(values, 1, VECTOR)), max_lanes(load(values, 1, VECTOR))


def gate_reference(filtered: np.ndarray, gate: np.ndarray) -> np.ndarray:
    f, g = filtered.astype(np.float64), gate.astype(np.float64)
    return np.tanh(f) / (1.0 + np.exp(-g))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("depth", [4, 16, 80])
def test_float_products_equal_numpy(rows: int, depth: int) -> None:
    rng = np.random.default_rng(rows + depth)
    matrices = [rng.normal(size=(rows, depth)).astype(np.float32) for _ in range(2)]
    packed = pack_rows(matrices, np.float32)
    inputs = rng.normal(size=depth).astype(np.float32)
    shifts = rng.normal(size=rows + 3).astype(np.float32)
    out = np.full(rows + 1, np.nan, np.float32)
    run_product(out, packed, 1, inputs, ONE, shifts)
    np.testing.assert_allclose(out[:rows], matrices[1] @ inputs + shifts[3:], atol=2e-5)
    assert np.isnan(out[rows]), "wrote past the last row"


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("depth", [4, 16, 80])
def test_int8_sums_are_exact(rows: int, depth: int) -> None:
    rng = np.random.default_rng(rows + depth)
    # Rows of whole numbers with 127 among them are their own quantisation, at scale 1.
    matrix = rng.integers(-127, 128, (rows, depth)).astype(np.float32)
    matrix[:, 0] = 127
    packed = pack_rows([matrix], np.int8)
    inputs = rng.integers(-32767, 32768, depth).astype(np.int16)
    out = np.full(rows, np.nan, np.float32)
    shifts = np.zeros(rows + 3, np.float32)
    run_product(out, packed, 0, as_inputs(inputs), np.float32(0.5), shifts)
    exact = matrix.astype(np.int64) @ inputs.astype(np.int64)
    np.testing.assert_array_equal(out, exact.astype(np.float32) * np.float32(0.5))


def test_int8_sums_reach_the_ends_of_int32_without_wrapping() -> None:
    depth = 516
    packed = pack_rows([np.full((16, depth), -1.0, np.float32)], np.int8)
    out = np.empty(16, np.float32)
    inputs = np.full(depth, 32767, np.int16)
    run_product(out, packed, 0, as_inputs(inputs), np.float32(127.0), np.zeros(19, np.float32))
    np.testing.assert_allclose(out, -127.0 * 32767 * depth, rtol=1e-6)
    with pytest.raises(ConfigError, match="beyond int32; use fewer channels or the float32"):
        pack_rows([np.ones((16, depth + 4), np.float32)], np.int8)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_sums_over_two_parts_of_the_columns_make_a_whole_product(rows: int, dtype: Any) -> None:
    rng = np.random.default_rng(rows)
    depth, split = 48, 16
    packed = pack_rows([rng.normal(size=(rows, depth)).astype(np.float32) for _ in "ab"], dtype)
    inputs = rng.normal(size=depth).astype(np.float32)
    if dtype == np.int8:
        inputs = as_inputs(rng.integers(-32767, 32768, depth).astype(np.int16))
    shifts = rng.normal(size=rows + 3).astype(np.float32)
    whole, joined = np.empty(rows, np.float32), np.empty(rows, np.float32)
    run_product(whole, packed, 1, inputs, ONE, shifts)
    run_parts(joined, packed, inputs, np.empty(1 + 2 * rows, sum_dtype(dtype)), split, shifts[3:])
    if dtype == np.int8:
        np.testing.assert_array_equal(joined, whole)
    else:
        np.testing.assert_allclose(joined, whole, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_products_ahead_equal_one_product_a_step(steps: int, dtype: Any) -> None:
    rng = np.random.default_rng(steps)
    rows, depth = 96, 48
    matrices = [rng.normal(size=(rows, depth)).astype(np.float32) for _ in range(2)]
    packed = pack_rows(matrices, dtype, tile=AHEAD_ROWS)
    inputs = rng.normal(size=(steps, depth)).astype(np.float32)
    if dtype == np.int8:
        whole = rng.integers(-32767, 32768, (steps, depth)).astype(np.int16)
        inputs, given = whole, as_inputs(whole)
    else:
        given = inputs.reshape(-1)
    shifts = rng.normal(size=rows + 3).astype(np.float32)
    out = np.full(5 + steps * rows, np.nan, np.float32)
    run_ahead(out, packed, given, steps, shifts)
    used = matrices[1].astype(np.float64)
    if dtype == np.int8:
        levels, scales = quantise_rows(matrices[1])
        used = levels * scales[:, None].astype(np.float64)
    expected = inputs.astype(np.float64) @ used.T + shifts[3:]
    got = out[5:].reshape(steps, rows)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@given(
    counts=st.lists(st.integers(1, 2 * BLOCK_STEPS + 5), min_size=1, max_size=4),
    rows=st.sampled_from([16, 48]),
    depth=st.sampled_from([3, 16]),
    add=st.booleans(),
    rectify=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_block_products_equal_numpy_however_time_is_split(
    counts: list[int], rows: int, depth: int, add: bool, rectify: bool
) -> None:
    rng = np.random.default_rng(sum(counts))
    time = sum(counts)
    matrix = rng.normal(size=(rows, depth)).astype(np.float32)
    bias = rng.normal(size=rows).astype(np.float32)
    packed = pack_block([matrix, matrix], [bias, bias])
    inputs = rng.normal(size=(time, depth)).astype(np.float32)
    before = rng.normal(size=(time, rows)).astype(np.float32)
    whole, parts = before.copy(), before.copy()
    block_product(whole, packed, 1, inputs, time, add, rectify)
    start = 0
    for count in counts:
        block_product(parts[start:], packed, 1, inputs[start:], count, add, rectify)
        start += count
    expected = inputs @ matrix.T + bias + before * add
    expected = np.maximum(expected, 0) if rectify else expected
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    np.testing.assert_array_equal(whole, parts)


def test_block_rows_are_padded_to_whole_vectors() -> None:
    matrix = np.ones((8, 4), np.float32)
    packed = pack_block([matrix], [np.ones(8, np.float32)])
    assert packed.bias.shape == (1, 16)
    assert not packed.bias[0, 8:].any()
    assert isinstance(packed, BlockMatrix)
    assert isinstance(pack_rows([np.ones((16, 4), np.float32)], np.float32), PackedMatrix)


def test_exponential_error_is_below_3e_7() -> None:
    values = np.linspace(-87.0, 87.0, 1 << 20).astype(np.float32)
    exact = np.exp(values.astype(np.float64))
    run_exponential(values)
    assert np.abs(values / exact - 1.0).max() < 3e-7


def test_gate_error_is_below_4e_7() -> None:
    rng = np.random.default_rng(0)
    filtered = rng.uniform(-12, 12, 1 << 20).astype(np.float32)
    filtered[: 1 << 16] *= np.float32(1e-3)
    gate = rng.uniform(-50, 50, 1 << 20).astype(np.float32)
    gate[::3] *= np.float32(0.1)
    out = np.full(1 << 20, np.nan, np.float32)
    run_gated(filtered, gate, out)
    assert np.abs(out - gate_reference(filtered, gate)).max() < 4e-7


@given(st.lists(st.floats(width=32), min_size=32, max_size=32))
@settings(max_examples=200, deadline=None)
def test_gate_is_at_most_one_and_never_denormal_whatever_comes_in(values: list[float]) -> None:
    inputs = np.array(values, np.float32)
    out = np.full(16, np.nan, np.float32)
    run_gated(inputs[:16].copy(), inputs[16:].copy(), out)
    assert np.all(np.abs(out) <= 1.0)
    assert np.all((out == 0) | (np.abs(out) >= np.finfo(np.float32).tiny))


def test_gate_cannot_exceed_one_near_its_ends() -> None:
    filtered = np.linspace(5, 12, 1 << 16).astype(np.float32)
    out = np.empty_like(filtered)
    for gate in (8.0, 17.0, 40.0, 1e30):
        run_gated(filtered, np.full_like(filtered, gate), out)
        assert out.max() <= 1.0
        assert out[-1] > 0.999


def test_folds_cover_every_lane() -> None:
    values = np.arange(17, dtype=np.float32)
    assert run_folds(values) == (136.0, 16.0)
    values[7] = 99
    assert run_folds(values)[1] == 99.0


def draw(logits: np.ndarray, uniforms: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    codes = np.empty(len(uniforms), np.uint8)
    scratch = [np.empty(size, np.float32) for size in (LEVELS, LEVELS, 16)]
    draw_codes(logits.astype(np.float32), uniforms, np.float32(1 / temperature), codes, *scratch)
    return codes


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 2.0])
def test_drawn_codes_are_those_of_the_reference(temperature: float) -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 4, (3000, LEVELS)).astype(np.float32)
    uniforms = rng.random(3000).astype(np.float32)
    drawn = draw(logits, uniforms, temperature)
    for row, uniform, code in zip(logits.astype(np.float64), uniforms, drawn, strict=True):
        # Where a uniform falls on a boundary to within float32, either side is right.
        near = {sample(row, float(uniform) + e, temperature) for e in (-1e-6, 0.0, 1e-6)}
        assert code in near


def test_drawn_codes_follow_the_probabilities() -> None:
    probabilities = np.zeros(LEVELS)
    probabilities[[0, 15, 16, 255]] = 0.1, 0.2, 0.3, 0.4
    logits = np.log(probabilities + 1e-30)[None].repeat(100_000, 0)
    uniforms = np.random.default_rng(1).random(100_000, dtype=np.float32)
    counts = np.bincount(draw(logits, uniforms), minlength=LEVELS)
    np.testing.assert_allclose(counts / 100_000, probabilities, atol=0.01)
    assert counts[probabilities == 0].sum() == 0


@pytest.mark.parametrize("uniform", [0.0, 2.0**-24, 0.25, 0.5, 1.0 - 2.0**-24])
def test_a_code_without_probability_is_never_drawn(uniform: float) -> None:
    rng = np.random.default_rng(7)
    likely = np.zeros((2000, LEVELS), bool)
    likely[:, 33:220] = rng.random((2000, 187)) < 0.05
    likely[:, 40] = True
    logits = np.where(likely, rng.normal(0, 3, likely.shape), -200.0)
    codes = draw(logits, np.full(2000, uniform, np.float32))
    assert likely[np.arange(2000), codes].all()


def test_logits_that_are_not_numbers_still_give_a_code() -> None:
    logits = np.full((3, LEVELS), np.nan)
    logits[1] = np.inf
    logits[2] = -np.inf
    assert draw(logits, np.full(3, 0.5, np.float32)).shape == (3,)


def test_counting_boundaries_gives_every_mulaw_code() -> None:
    boundaries = code_boundaries()
    below = np.nextafter(boundaries, np.float32(-2))
    edges = np.concatenate([boundaries, below, -boundaries, -below]).astype(np.float32)
    special = [0.0, -0.0, 1.0, -1.0, 1.5, -7.0, 1e-45, np.inf, -np.inf, np.nan, 3e38]
    sweep = np.linspace(-1.1, 1.1, 20_001)
    samples = np.concatenate([edges, special, sweep]).astype(np.float32)
    counted = [mulaw_code(value, boundaries) for value in samples]
    np.testing.assert_array_equal(counted, mulaw.encode(samples))
    assert mulaw_code(np.float32(np.nan), boundaries) == SILENCE


def test_quantised_rows_err_by_half_a_step_at_most() -> None:
    rows = np.random.default_rng(2).normal(size=(32, 64)).astype(np.float32)
    rows[3] = 0.0
    rows[4] *= 1e-12
    levels, scales = quantise_rows(rows)
    assert np.all(np.abs(levels * scales[:, None] - rows) <= 0.5001 * scales[:, None])
    assert not levels[3].any()
    assert levels.max() == 127


def test_weights_that_could_make_denormals_are_packed_as_zero() -> None:
    rows = np.full((16, 4), 1e-30, np.float32)
    rows[:, 1] = -3e-19
    packed = pack_rows([rows], np.float32).weights
    assert sorted(np.unique(packed)) == [np.float32(-3e-19), 0.0]
    assert np.count_nonzero(pack_block([rows], [rows[:, 0]]).weights) == 16


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32])
def test_packed_arrays_begin_on_a_cache_line(dtype: Any) -> None:
    for size in (1, 63, 64, 65):
        array = aligned((3, size), dtype)
        assert array.ctypes.data % 64 == 0
        assert not array.any()


@pytest.mark.parametrize(
    ("architecture", "features", "register_bytes", "fused"),
    [
        ("x86_64", "+sse2,-avx2,+cx8", 16, False),
        ("x86_64", "+avx,+avx2,+fma,-avx512f", 32, True),
        ("x86_64", "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512dq", 64, True),
        ("x86_64", "+avx2,+fma,+avx512f", 32, True),
        ("aarch64", "+neon", 16, True),
        ("arm64", "", 16, True),
    ],
)
def test_vector_width_follows_the_features(
    architecture: str, features: str, register_bytes: int, fused: bool
) -> None:
    machine = describe(architecture, "some-cpu", features)
    assert (machine.register_bytes, machine.fused) == (register_bytes, fused)
    assert machine.sum_rows == 2 * register_bytes
    assert not machine.byte_products


def test_byte_products_need_a_vnni_of_the_registers_width() -> None:
    wide = "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512dq"
    assert describe("x86_64", "some-cpu", wide + ",+avx512vnni").byte_products
    assert describe("x86_64", "some-cpu", "+avx2,+fma,+avxvnni").byte_products
    assert describe("x86_64", "some-cpu", "+avx2,+fma,+avxvnni").sum_rows == 32
    assert not describe("x86_64", "some-cpu", "+avx2,+fma,+avx512vnni").byte_products


def machine_code(weights: Any, inputs: Any) -> str:
    # Compiled here: code that came from the cache on disk cannot be shown.
    compiled = numba.njit(nogil=True)(run_product.py_func)
    packed = pack_rows([weights], inputs.dtype if inputs.dtype == np.float32 else np.int8)
    shifts = np.zeros(len(weights) + 3, np.float32)
    compiled(np.empty(len(weights), np.float32), packed, 0, inputs, ONE, shifts)
    return "".join(compiled.inspect_asm().values())


@pytest.mark.skipif(not X86, reason="names x86 instructions")
def test_int8_products_compile_to_multiply_add_of_pairs() -> None:
    inputs = as_inputs(np.ones(64, np.int16))
    code = machine_code(np.ones((128, 64), np.float32), inputs)
    wanted = ("vpdpbusd",) if MACHINE.byte_products else ("pmaddwd", "vpdpwssd")
    assert any(name in code for name in wanted)
    assert "pmulld" not in code
    if MACHINE.register_bytes == 64:
        assert "zmm" in code


@pytest.mark.skipif(not X86, reason="names x86 instructions")
def test_float_products_compile_to_fused_multiply_add() -> None:
    code = machine_code(np.ones((128, 64), np.float32), np.ones(64, np.float32))
    assert ("vfmadd" in code) == MACHINE.fused
    assert "fmaf" not in code, "a multiply-add became a function call"


OTHER_MACHINES = {
    "avx512": ("skylake-avx512", "+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx2,+fma"),
    "avxvnni": ("x86-64-v3", "+avx2,+fma,+bmi,+bmi2,+f16c,+avxvnni"),
    "avx2": ("x86-64-v3", "+avx2,+fma,+bmi,+bmi2,+f16c"),
    "baseline": ("x86-64", "+sse2"),
}

PROBE = """
import numpy as np
from model.bundle import random_bundle
from model.reference import ReferenceDecoder, ReferenceEncoder
from numba_kernels.machine import MACHINE
from realtime.backends import open_backend
bundle = random_bundle("tiny", ("a",), seed=4)
config, rng = bundle.config, np.random.default_rng(4)
audio = rng.normal(0, 0.3, 4 * config.hop_samples + 7).astype(np.float32)
codes = rng.integers(0, 256, 4 * config.hop_samples).astype(np.uint8)
reference = ReferenceEncoder(config, bundle.encoder)
latents = reference.encode(audio, reference.initial_state())
reference = ReferenceDecoder(config, bundle.decoders["a"])
logits = reference.teacher_force(latents, codes, reference.initial_state())
print(MACHINE.register_bytes)
for name in ("numba-float32", "numba-int8"):
    backend = open_backend(name, bundle)
    got = backend.encoder.encode(audio, backend.encoder.initial_state())
    print(np.abs(got - latents).max())
    decoder = backend.decoders[0]
    got = decoder.teacher_force(latents, codes, decoder.initial_state())
    print(np.abs(got - logits).max())
"""


@pytest.mark.skipif(not X86, reason="runs x86 instruction sets")
@pytest.mark.parametrize("name", OTHER_MACHINES)
def test_kernels_are_right_on_lesser_vector_units(name: str) -> None:
    cpu, features = OTHER_MACHINES[name]
    needed = {"baseline": "sse2", "avx512": "avx512bw"}.get(name, name)
    if needed not in MACHINE.features:
        pytest.skip(f"this processor cannot run {name}")
    environment = os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=environment, cwd=Path(jit.__file__).parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    width, *errors = done.stdout.split()
    assert int(width) == {"baseline": 16, "avx512": 64}.get(name, 32)
    encoder_f32, float32, encoder_i8, int8 = map(float, errors)
    assert max(encoder_f32, float32) < 1e-4
    assert max(encoder_i8, int8) < 0.1


def test_any_edit_of_any_source_changes_the_cache_folder(tmp_path: Path) -> None:
    sources = [tmp_path / "a.py", tmp_path / "b.py"]
    for path in sources:
        path.write_text("x = 1\n")
    before = jit.source_hash(sources)
    assert jit.source_hash(reversed(sources)) == before
    sources[1].write_text("x = 2\n")
    assert jit.source_hash(sources) != before
    sources[1].write_text("x = 1\n")
    assert jit.source_hash(sources) == before
    assert jit.source_hash(sources[:1]) != before


def test_every_kernel_source_is_hashed() -> None:
    hashed = {path.name for path in jit._SOURCES}
    assert {path.name for path in Path(jit.__file__).parent.glob("*.py")} <= hashed
    assert "config.py" in hashed


COMPILE_ONE = """
import numpy as np
from numba_kernels.sampling import draw_codes
codes = np.zeros(2, np.uint8)
scratch = [np.empty(size, np.float32) for size in (256, 256, 16)]
uniforms = np.full(2, 0.5, np.float32)
draw_codes(np.zeros((2, 256), np.float32), uniforms, np.float32(1), codes, *scratch)
print(*codes, sum(draw_codes.stats.cache_hits.values()))
"""


def compile_one(cache: Path) -> list[str]:
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "HOME": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE_ONE],
        env=environment, cwd=Path(jit.__file__).parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="names the cache folder by XDG_CACHE_HOME")
def test_a_second_process_loads_kernels_and_survives_damaged_ones(tmp_path: Path) -> None:
    assert compile_one(tmp_path) == ["128", "128", "0"]
    assert compile_one(tmp_path) == ["128", "128", "1"]
    for kind, damage in (("*.nbc", 100), ("*.nbi", 100), ("*.nbi", 0)):
        for path in tmp_path.rglob(kind):
            path.write_bytes(path.read_bytes()[:damage])
        assert compile_one(tmp_path) == ["128", "128", "0"]
    assert compile_one(tmp_path) == ["128", "128", "1"]


@pytest.mark.skipif(sys.platform != "linux", reason="names the cache folder by XDG_CACHE_HOME")
def test_kernels_compile_without_a_place_to_cache_them(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert compile_one(blocked) == ["128", "128", "0"]


def test_folders_of_old_sources_are_removed_after_a_month(tmp_path: Path) -> None:
    kept, recent, old = (tmp_path / name for name in ("kept", "recent", "old"))
    for folder in (kept, recent, old):
        folder.mkdir()
    for folder in (kept, old):
        os.utime(folder, (0, 0))
    jit._remove_stale(tmp_path, keep=kept)
    assert kept.is_dir()
    assert recent.is_dir()
    assert not old.exists()
