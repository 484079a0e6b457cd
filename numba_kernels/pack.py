"""Weights as the kernels read them: tiled, aligned, and quantised for the int8 decoder.

int8 weights have one scale a row. Their inputs are int16 on scales that no value can exceed, so
nothing saturates: a gated output is at most 1 in size, hence a layer's input is at most the
largest embedding plus what each earlier layer's rows can add at most; the head's inputs are scaled
by their own largest value, sample by sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from model import mulaw
from model.config import LEVELS, DecoderConfig, EncoderConfig
from model.errors import ConfigError
from model.weights import Weights
from numba_kernels.product import AHEAD_ROWS, SUM_ROWS, column_group
from numba_kernels.simd import VECTOR

Floats = NDArray[np.float32]

GATE_SCALE = np.float32(32767.0)
"""int16 units of one unit of a gated output."""

HEADROOM = 32760.0
"""int16 units of a layer input's bound; the rest absorbs rounding in the float32 sums."""

# Smaller weights change nothing that can be heard, and could make denormal products.
_TINY = 1e-20
_ALIGNMENT = 64
_EVERY = slice(None)


class PackedMatrix(NamedTuple):
    """Matrices for ``product``: one a layer, all of one shape."""

    weights: NDArray[Any]
    """(layers, rows, depth) float32 or int8; in memory tile by tile, see ``pack_rows``."""
    stride: int
    """Elements from one layer's weights to the next's."""
    scales: Floats
    """(layers, rows): what a sum is multiplied by; ones for float32."""
    offsets: NDArray[np.int32]
    """(layers, rows): what is added to a sum of byte products, see ``product``."""


class BlockMatrix(NamedTuple):
    """Matrices for ``block_product``: one a layer, all of one shape."""

    weights: Floats
    """(layers, rows / 16, depth, 16)."""
    bias: Floats
    """(layers, rows)."""


class ScaledMatrix(NamedTuple):
    """Quantised matrices for ``encoder.layer_product``: one a layer, all of one shape."""

    rows: PackedMatrix
    """(layers, rows padded with zeros to whole tiles of AHEAD_ROWS, depth)."""
    bias: Floats
    """(layers, rows)."""
    zeros: Floats
    """As many as padded rows."""


class DecoderWeights(NamedTuple):
    """Everything one thread of the sample loop reads; ``own`` is its share, all if it is alone."""

    embedding: Floats
    """(256, R)."""
    conditions: BlockMatrix
    """(1, layers * 2R + H, latent_channels): the latent's way into every gate, then the head."""
    dilations: NDArray[np.int64]
    queue_starts: NDArray[np.int64]
    """Where each layer's queue of ``dilation + 1`` inputs begins, counted in inputs."""
    input_scales: Floats
    """(layers,): 16-bit units of one unit of a layer's input."""
    past: PackedMatrix
    """(layers, own 2R, R): rows in the order of ``gate_order``."""
    current: PackedMatrix
    """(layers, own 2R, R): likewise."""
    residual: PackedMatrix
    """(layers, R, own R): columns of gated channels."""
    residual_bias: Floats
    """(layers, R)."""
    skip: PackedMatrix
    """(layers, own S, R)."""
    skip_bias: Floats
    """(own S,): the sum of every layer's."""
    hidden: PackedMatrix
    """(1, H, S)."""
    logits: PackedMatrix
    """(1, 256, H)."""
    logits_bias: Floats


class EncoderWeights(NamedTuple):
    """Everything the encoder kernel reads."""

    boundaries: Floats
    """(255,): the least sample of each mu-law code but the first."""
    levels: Floats
    """(256,): what the network reads for each code."""
    front: Floats
    """(4, C): three taps, oldest first, then the bias."""
    dilations: NDArray[np.int64]
    queue_starts: NDArray[np.int64]
    """Where each layer's queue of 2 * ``dilation`` rows of C begins."""
    dilated: BlockMatrix | ScaledMatrix
    """(layers, C, 3C), oldest tap first; scaled for int8."""
    mix: BlockMatrix | ScaledMatrix
    """(layers, C, C); likewise."""
    latent: BlockMatrix
    """(1, latent_channels rounded up to 16, C)."""


def pack_encoder(
    config: EncoderConfig, weights: Weights, dtype: DTypeLike = np.float32
) -> EncoderWeights:
    """Lay the encoder's weights out for its kernel, the layers' as float32 or int8.

    Raises ConfigError if an int32 sum of the int8 encoder could overflow.
    """
    pack_layers = pack_scaled if np.dtype(dtype) == np.int8 else pack_block
    names = [f"layers.{i}" for i in range(len(config.dilations))]
    return EncoderWeights(
        boundaries=code_boundaries(),
        levels=mulaw.companded(np.arange(LEVELS, dtype=np.uint8)),
        front=_clean(np.vstack([weights["front.weight"], weights["front.bias"]])),
        dilations=np.array(config.dilations, np.int64),
        queue_starts=queue_starts([2 * d for d in config.dilations], config.channels),
        dilated=pack_layers(
            [np.hstack(list(weights[f"{name}.dilated.weight"])) for name in names],
            [weights[f"{name}.dilated.bias"] for name in names],
        ),
        mix=pack_layers(
            [weights[f"{name}.mix.weight"] for name in names],
            [weights[f"{name}.mix.bias"] for name in names],
        ),
        latent=pack_block([weights["latent.weight"]], [weights["latent.bias"]]),
    )


def gate_order(channels: int) -> NDArray[np.int64]:
    """Which row of filters (0..R-1) or gates (R..2R-1) each packed row is.

    A vector of filters and the gates of the same channels lie side by side, so that a range of
    rows is all that a range of channels needs.
    """
    rows = np.arange(2 * channels).reshape(2, channels // VECTOR, VECTOR)
    return rows.transpose(1, 0, 2).ravel()


def pack_decoder(
    config: DecoderConfig, weights: Weights, dtype: DTypeLike, member: int = 0, members: int = 1
) -> DecoderWeights:
    """Lay a decoder's weights out for one thread of the sample loop, as float32 or int8.

    member, members: which thread of how many this is.
    Raises ConfigError if an int32 sum of the int8 decoder could overflow, or channels do not
    divide among the members.
    """
    residual, skip = config.residual_channels, config.skip_channels
    if members > 1 and (residual % (members * VECTOR) or skip % (members * VECTOR)):
        raise ConfigError(
            f"{members} threads need residual and skip channels in multiples of "
            f"{members * VECTOR}, got {residual} and {skip}; use one thread"
        )
    own = _share(residual, member, members)
    own_gates, own_skips = _share(2 * residual, member, members), _share(skip, member, members)
    order = gate_order(residual)[own_gates]
    names = [f"layers.{i}" for i in range(len(config.dilations))]
    embedding = _clean(weights["embedding.weight"])
    outputs = [_clean(weights[f"{name}.output.weight"]) for name in names]
    output_bias = _clean(np.stack([weights[f"{name}.output.bias"] for name in names]))
    input_scales = HEADROOM / input_bounds(embedding, outputs, output_bias, dtype)
    unit = 1.0 / float(GATE_SCALE)
    current, kept, skips = _one_stream(
        pack_rows(
            [weights[f"{name}.current.weight"][order] for name in names], dtype, 1.0 / input_scales
        ),
        pack_rows([rows[:residual] for rows in outputs], dtype, unit, columns=own),
        pack_rows([rows[residual:][own_skips] for rows in outputs], dtype, unit),
    )
    return DecoderWeights(
        embedding=embedding,
        conditions=_pack_conditions(names, weights, gate_order(residual)),
        dilations=np.array(config.dilations, np.int64),
        queue_starts=queue_starts([d + 1 for d in config.dilations], residual),
        input_scales=input_scales.astype(np.float32),
        past=pack_rows(
            [weights[f"{name}.past.weight"][order] for name in names],
            dtype,
            1.0 / input_scales,
            AHEAD_ROWS,
        ),
        current=current,
        residual=kept,
        residual_bias=_clean(output_bias[:, :residual]),
        skip=skips,
        skip_bias=_clean(output_bias[:, residual:].sum(axis=0)[own_skips]),
        hidden=pack_rows([weights["head.hidden.weight"]], dtype),
        logits=pack_rows([weights["head.logits.weight"]], dtype),
        logits_bias=_clean(weights["head.logits.bias"]),
    )


def _share(count: int, member: int, members: int) -> slice:
    return slice(count * member // members, count * (member + 1) // members)


def _one_stream(
    current: PackedMatrix, residual: PackedMatrix, skip: PackedMatrix
) -> tuple[PackedMatrix, PackedMatrix, PackedMatrix]:
    """The same matrices in the order the sample loop reads them, without a gap.

    A processor that reads ahead then reads what comes next, and the weights of more layers stay in
    its cache. Skips come a layer late.
    """
    layers = len(current.weights)
    sizes = [matrix.stride for matrix in (current, residual, skip)]
    stride = sum(sizes)
    stream = aligned((layers + 1, stride), current.weights.dtype)
    starts = np.cumsum([0, *sizes])
    placed = []
    for matrix, start, size, late in zip(
        (current, residual, skip), starts, sizes, (0, 0, 1), strict=False
    ):
        view = stream[late : late + layers, start : start + size]
        view[...] = matrix.weights.reshape(layers, size)
        shape = matrix.weights.shape
        placed.append(matrix._replace(weights=view.reshape(shape), stride=stride))
    return placed[0], placed[1], placed[2]


def _pack_conditions(
    names: Sequence[str], weights: Weights, order: NDArray[np.int64]
) -> BlockMatrix:
    rows = [weights[f"{name}.condition.weight"][order] for name in names]
    bias = [weights[f"{name}.current.bias"][order] for name in names]
    return pack_block(
        [np.vstack([*rows, weights["head.condition.weight"]])],
        [np.concatenate([*bias, weights["head.hidden.bias"]])],
    )


def input_bounds(
    embedding: Floats, outputs: Sequence[Floats], output_bias: Floats, dtype: DTypeLike
) -> NDArray[np.float64]:
    """(layers,): what no value of each layer's input can exceed in size.

    Row by row: the largest embedding, and for each layer before the sum of the row's weights, as
    they are once quantised, and its bias; a gated output being at most 1.
    """
    channels = embedding.shape[1]
    bound = np.abs(embedding.astype(np.float64)).max(axis=0)
    bounds = []
    for rows, bias in zip(outputs, output_bias, strict=True):
        bounds.append(max(float(bound.max()), _TINY))
        used: NDArray[Any] = rows[:channels].astype(np.float64)
        if np.dtype(dtype) == np.int8:
            levels, scales = quantise_rows(rows[:channels])
            used = levels * scales[:, None].astype(np.float64)
        bound = bound + np.abs(used).sum(axis=1) + np.abs(bias[:channels])
    return np.array(bounds)


def quantise_rows(rows: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Nearest multiples of each row's scale, its largest weight being 127 of them."""
    scales = np.maximum(np.abs(rows).max(axis=1), _TINY).astype(np.float32) / np.float32(127)
    return np.rint(rows / scales[:, None]).astype(np.int8), scales


def pack_rows(
    matrices: Sequence[Floats],
    dtype: DTypeLike,
    unit: float | NDArray[np.floating] = 1.0,
    tile: int = SUM_ROWS,
    columns: slice = _EVERY,
) -> PackedMatrix:
    """Lay matrices (rows, depth) out for ``product``.

    Tiles of rows follow one another, the last ones half as large until the rows are used up; in a
    tile, groups of columns; in a group, the weights of each row side by side.
    unit: what one unit of 16-bit input stands for, one number or one a matrix. columns: those
    kept; scales and offsets are of whole rows.
    """
    rows, depth = matrices[0][:, columns].shape
    packed = aligned((len(matrices), rows, depth), dtype)
    scales = np.ones((len(matrices), rows), np.float32)
    offsets = np.zeros((len(matrices), rows), np.int32)
    units = np.broadcast_to(np.asarray(unit, np.float64), len(matrices))
    for layer, matrix in enumerate(matrices):
        values: NDArray[Any] = _clean(matrix)
        if packed.dtype == np.int8:
            values, row_scales = quantise_rows(values)
            _require_no_overflow(values)
            scales[layer] = row_scales * units[layer]
            # Taken modulo 2**32 like the sums themselves, which end within int32.
            offsets[layer] = (-32768 * values.astype(np.int64).sum(axis=1)).astype(np.int32)
        packed[layer] = _tiled(values[:, columns], tile).reshape(rows, depth)
    return PackedMatrix(packed, rows * depth, scales, offsets)


def _tiled(matrix: NDArray[Any], tile: int) -> NDArray[Any]:
    rows, depth = matrix.shape
    group = column_group(matrix.dtype)
    tiles = []
    start, size = 0, tile
    while start < rows:
        if start + size > rows:
            size //= 2
            continue
        groups = matrix[start : start + size].reshape(size, depth // group, group)
        tiles.append(groups.transpose(1, 0, 2).ravel())
        start += size
    return np.concatenate(tiles)


def _require_no_overflow(levels: NDArray[np.int8]) -> None:
    largest = int(np.abs(levels.astype(np.int64)).sum(axis=1).max()) * 32767
    if largest >= 2**31:
        raise ConfigError(
            f"a row of {levels.shape[1]} int8 weights can sum to {largest}, beyond int32; "
            "use fewer channels or the float32 decoder"
        )


def pack_block(matrices: Sequence[Floats], biases: Sequence[Floats]) -> BlockMatrix:
    """Lay matrices (rows, depth) out for ``block_product``, rows padded with zeros to 16."""
    rows, depth = matrices[0].shape
    padded = -(-rows // VECTOR) * VECTOR
    weights = aligned((len(matrices), padded // VECTOR, depth, VECTOR), np.float32)
    bias = aligned((len(matrices), padded), np.float32)
    for layer, (matrix, offset) in enumerate(zip(matrices, biases, strict=True)):
        whole = np.zeros((padded, depth), np.float32)
        whole[:rows] = _clean(matrix)
        weights[layer] = whole.reshape(-1, VECTOR, depth).transpose(0, 2, 1)
        bias[layer, :rows] = _clean(offset)
    return BlockMatrix(weights, bias)


def pack_scaled(matrices: Sequence[Floats], biases: Sequence[Floats]) -> ScaledMatrix:
    """Quantise matrices (rows, depth), and lay them out for ``encoder.layer_product``.

    Raises ConfigError if an int32 sum could overflow.
    """
    padding = ((0, -len(biases[0]) % AHEAD_ROWS), (0, 0))
    rows = pack_rows([np.pad(matrix, padding) for matrix in matrices], np.int8, tile=AHEAD_ROWS)
    zeros = np.zeros(rows.weights.shape[1], np.float32)
    return ScaledMatrix(rows, _clean(np.stack(biases)), zeros)


def queue_starts(rows: Sequence[int], channels: int) -> NDArray[np.int64]:
    """Where each layer's queue begins in one flat array of them all."""
    return np.concatenate([[0], np.cumsum(rows)[:-1]]).astype(np.int64) * channels


def code_boundaries() -> Floats:
    """(255,): the least float32 sample of each mu-law code from 1 on.

    Found by bisection over ``model.mulaw.encode``, so that counting boundaries gives its codes
    exactly.
    """
    codes = np.arange(1, LEVELS)
    low, high = np.full(codes.shape, -1.0, np.float32), np.full(codes.shape, 1.0, np.float32)
    while np.any(apart := np.nextafter(low, high) < high):
        middle = (low.astype(np.float64) + high) / 2
        middle = np.where(apart, middle, high).astype(np.float32)
        reached = mulaw.encode(middle) >= codes
        high = np.where(reached, middle, high)
        low = np.where(reached, low, middle)
    return high


def _clean(weights: Floats) -> Floats:
    """A contiguous aligned copy without weights so small that products could be denormal."""
    kept = aligned(weights.shape, np.float32)
    kept[...] = np.where(np.abs(weights) < _TINY, 0.0, weights)
    return kept


def aligned(shape: int | Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """A zero array whose first byte begins a cache line."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    room = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].view(kind).reshape(shape)
