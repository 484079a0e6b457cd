"""The passes that training makes between products, on bfloat16 and at odd places."""

from __future__ import annotations

import numpy as np
import pytest

from numba_kernels import residual


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Exactly representable float32 as the bits of bfloat16."""
    bits = values.astype(np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any()
    return (bits >> 16).astype(np.uint16)


def floats(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1.0, 1.0),
        (1.0 + 2**-8, 1.0),  # A tie goes to the even neighbour, here below,
        (1.0 + 3 * 2**-8, 1.0 + 2**-6),  # and here above.
        (1.0 + 2**-8 + 2**-20, 1.0 + 2**-7),
        (-(1.0 + 2**-8 + 2**-20), -(1.0 + 2**-7)),
        (np.inf, np.inf),
        (np.nan, np.nan),
    ],
)
def test_results_are_rounded_to_the_nearest_bfloat16(value: float, kept: float) -> None:
    zeros = np.zeros(16, np.uint16)
    following, skip = np.zeros(16, np.uint16), np.zeros(16, np.float32)
    bias = np.zeros(32, np.float32)
    bias[:16] = value
    residual.residual_forward(
        zeros, np.zeros(32, np.uint16), bias, following, skip, 1, 16, 16, 0, 1
    )
    np.testing.assert_array_equal(floats(following), np.full(16, kept, np.float32))


def test_segments_do_not_hear_one_another() -> None:
    time, width = 5, 16
    products = bfloat16(np.ones((2, time, 3 * width), np.float32))
    mixed = np.full((2, time, width), 0x7FC0, np.uint16)
    bias = np.zeros(width, np.float32)
    residual.taps_forward(products.ravel(), bias, mixed.ravel(), time, width, 2, 1, 2)
    assert np.isnan(floats(mixed[0])).all()
    np.testing.assert_array_equal(floats(mixed[1])[:, 0], [1, 1, 2, 2, 3])


def test_a_nan_in_the_signal_reaches_the_output() -> None:
    signal = np.full(16, np.nan, np.float32)
    following, skip = np.zeros(16, np.float32), np.zeros(16, np.float32)
    no = np.zeros(32, np.float32)
    residual.residual_forward(signal, no, no, following, skip, 1, 16, 16, 0, 1)
    assert np.isnan(following).all()
