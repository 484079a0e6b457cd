"""mu-law: known values, nearest level, and nothing a microphone can send breaks it."""

from __future__ import annotations

import numpy as np
import pytest

from model import mulaw
from model.config import LEVELS, SILENCE


@pytest.mark.parametrize(
    ("sample", "code"), [(0.0, SILENCE), (1.0, 255), (-1.0, 0), (2.0, 255), (-7.0, 0)]
)
def test_known_codes(sample: float, code: int) -> None:
    assert mulaw.encode(np.array([sample]))[0] == code


def test_known_level() -> None:
    # F(x) = ln(1 + 255 x) / ln 256 = 1/2 at x = (16 - 1) / 255, so the code is 0.75 * 255 rounded.
    assert mulaw.encode(np.array([15 / 255]))[0] == 191


def test_every_code_decodes_to_a_sample_that_encodes_to_it() -> None:
    codes = np.arange(LEVELS, dtype=np.uint8)
    np.testing.assert_array_equal(mulaw.encode(mulaw.decode(codes)), codes)


def test_levels_rise_and_are_odd_about_silence() -> None:
    table = mulaw.decode(np.arange(LEVELS, dtype=np.uint8))
    assert (np.diff(table) > 0).all()
    np.testing.assert_allclose(table, -table[::-1], atol=1e-7)


def test_unreal_samples_are_silence_or_clipped() -> None:
    codes = mulaw.encode(np.array([np.nan, np.inf, -np.inf], np.float32))
    np.testing.assert_array_equal(codes, [SILENCE, 255, 0])


def test_companded_levels_are_evenly_spaced() -> None:
    levels = mulaw.companded(np.arange(LEVELS, dtype=np.uint8))
    assert levels.dtype == np.float32
    assert levels[0] == -1.0
    assert levels[-1] == 1.0
    np.testing.assert_allclose(np.diff(levels), 2 / 255, atol=1e-6)
