"""``umt eval blend``: the transition, the seam of sounds whose seam is known, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("librosa")
pytest.importorskip("torch")

from evaluation.blend import (
    ALONE_S,
    BLEND,
    BLEND_S,
    REAL,
    REAL_SPLICE,
    ROWS,
    SPLICE,
    UNSPLICED,
    WHOLE_S,
    Pair,
    blend,
    blended,
    flux,
    means,
    pairs_of,
    seam,
    spliced,
)
from model.bundle import Bundle
from model.config import SAMPLE_RATE
from model.errors import DataError, ShapeError
from realtime.backends import open_backend
from tests.command_line import umt
from tests.prepared import prepared
from tests.synthetic import tones

WHOLE = round(WHOLE_S * SAMPLE_RATE)


def chord(*hertz: float) -> np.ndarray:
    """8.5 s of a steady sound over a little noise."""
    time = np.arange(WHOLE) / SAMPLE_RATE
    noise = np.random.default_rng(0).normal(0, 1e-3, WHOLE)
    return (noise + sum(0.1 * np.sin(2 * np.pi * one * time) for one in hertz)).astype(np.float32)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair("b", ("x", "y"), (tones(0, WHOLE_S, 0), tones(0, WHOLE_S, 1)))


def test_the_weights_run_linearly_from_one_piece_to_the_other() -> None:
    hop_s = 0.05
    one, other = np.full((100, 2), 1.0, np.float32), np.zeros((100, 2), np.float32)
    other[:, 1] = 2.0
    given = blended(one, other, hop_s)
    assert given.shape == (170, 2)
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given[:70], 1.0)
    np.testing.assert_array_equal(given[100:], other[:70])
    # Paper: 1 - t / 1.5, here in the middle of each frame.
    time = (np.arange(30) + 0.5) * hop_s
    np.testing.assert_allclose(given[70:100, 0], 1 - time / BLEND_S, atol=1e-6)
    np.testing.assert_allclose(given[70:100, 1], 1 + time / BLEND_S, atol=1e-6)


def test_each_piece_goes_on_through_the_transition() -> None:
    one = np.arange(500, dtype=np.float32)[:, None]
    given = blended(one, one + 1000, 0.01)[:, 0]
    assert given[349] == 349
    assert given[500] == 1150  # The second piece began with the transition.
    assert given[-1] == 1499
    with pytest.raises(ShapeError, match="5 s, 500 frames, got 500 and 499"):
        blended(one, one[1:], 0.01)


def test_a_splice_is_cut_in_the_middle_of_the_transition() -> None:
    one, other = np.arange(WHOLE), np.arange(WHOLE) + 10**6
    sound = spliced(one, other)
    assert len(sound) == WHOLE
    cut = round(4.25 * SAMPLE_RATE)
    np.testing.assert_array_equal(sound[:cut], one[:cut])
    # What the blend plays at 3.5 s and the splice at 4.25 s is the same moment of its piece.
    assert sound[cut] == 10**6 + round(0.75 * SAMPLE_RATE)


def test_a_hard_splice_has_a_seam_and_a_steady_sound_has_none() -> None:
    one, other = chord(220.0, 277.0, 330.0), chord(247.0, 311.0, 370.0)
    assert seam(one) < 2.0
    assert seam(spliced(one, other)) > 5.0
    # A splice that changes nothing but the phase is a click, and heard as one.
    moved = np.roll(one, 37)
    assert seam(spliced(one, moved)) > 3.0
    place = int(flux(spliced(one, other)).argmax()) * 160 / SAMPLE_RATE
    assert place == pytest.approx(ALONE_S + BLEND_S / 2, abs=0.03)


def test_a_slow_crossfade_has_no_seam() -> None:
    one, other = chord(220.0, 277.0), chord(247.0, 311.0)
    fade = np.clip((np.arange(WHOLE) / SAMPLE_RATE - ALONE_S) / BLEND_S, 0, 1)
    assert seam((one * (1 - fade) + other * fade).astype(np.float32)) < 2.5


def test_what_moves_outside_the_transition_is_no_seam() -> None:
    early = chord(220.0).copy()
    early[SAMPLE_RATE : SAMPLE_RATE + 8] += 0.9
    assert seam(early) == pytest.approx(seam(chord(220.0)), rel=0.05)
    still = np.zeros(WHOLE, np.float32)
    assert seam(still) == np.inf


def test_a_blend_is_the_first_translation_until_the_transition(
    tiny_bundle: Bundle, pair: Pair
) -> None:
    backend = open_backend("numba-int8", tiny_bundle)
    result = blend(backend, 1, pair, seed=3)
    alone, whole = round(ALONE_S * SAMPLE_RATE), WHOLE // 80 * 80
    (made,), (cut,), (first, second) = (result.sounds[row] for row in (BLEND, SPLICE, UNSPLICED))
    assert len(made) == len(cut) == len(first) == len(second) == whole
    np.testing.assert_array_equal(made[:alone], first[:alone])
    assert not np.array_equal(made[alone:], first[alone:])
    np.testing.assert_array_equal(cut, spliced(first, second))
    assert result.sounds[REAL] == pair.audio
    np.testing.assert_array_equal(result.sounds[REAL_SPLICE][0], spliced(*pair.audio))
    assert result.seams[UNSPLICED] == pytest.approx((seam(first) + seam(second)) / 2)
    again = blend(backend, 1, pair, seed=3)
    np.testing.assert_array_equal(again.sounds[BLEND][0], made)
    assert means([result, again]) == pytest.approx(result.seams)


def test_a_piece_blended_with_itself_from_the_same_moment_on_keeps_its_latents() -> None:
    one = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    shifted = one[350:]
    other = np.concatenate([shifted, one[:350]])
    given = blended(one, other, 0.01)
    np.testing.assert_allclose(given[:500], one, atol=1e-6)


def test_the_two_stretches_are_of_different_pieces() -> None:
    pieces = {
        "x": [tones(0, 9.0, 0), tones(0, 10.0, 1)],
        "short": [tones(0, 5.0, 2)],
        "y": [tones(0, 8.5, 3)],
    }
    pairs = pairs_of("a", pieces, 7, np.random.default_rng(0))
    assert len(pairs) == 7
    for one in pairs:
        assert set(one.pieces) == {"x", "y"}
        assert [len(audio) for audio in one.audio] == [WHOLE, WHOLE]
    assert {one.pieces for one in pairs} == {("x", "y"), ("y", "x")}
    with pytest.raises(DataError, match=r"two test pieces of a that last 8.5 s, found 1"):
        pairs_of("a", {"x": pieces["x"], "short": pieces["short"]}, 1, np.random.default_rng(0))


def test_the_command_writes_blends_and_splices(tmp_path: Path, tiny_bundle: Bundle) -> None:
    # A tenth of the time is held out: three recordings.
    given = prepared(tiny_bundle, tmp_path, seconds=9.0, takes=22)
    out, report, picture = tmp_path / "out", tmp_path / "b.json", tmp_path / "b.png"
    said = umt(
        "eval", "blend", *given, "--to", "b", "--pairs", 2, "--out", out, "--json", report,
        "--plot", picture,
    )  # fmt: skip
    assert said.status == 0, said.err
    stored = json.loads(report.read_text())
    assert set(stored["seam"]) == set(ROWS)
    assert [row["domain"] for row in stored["pairs"]] == ["b", "b"]
    assert all(len(set(row["pieces"])) == 2 for row in stored["pairs"])
    names = sorted(path.name for path in out.iterdir())
    assert names == ["b-1-blend.wav", "b-1-splice.wav", "b-2-blend.wav", "b-2-splice.wav"]
    assert names == sorted(name for row in stored["pairs"] for name in row["files"])
    for name in names:
        info = soundfile.info(out / name)
        assert (info.samplerate, info.frames) == (SAMPLE_RATE, WHOLE)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_one_piece_is_not_enough(tmp_path: Path, tiny_bundle: Bundle) -> None:
    given = prepared(tiny_bundle, tmp_path, seconds=9.0, takes=3)
    said = umt("eval", "blend", *given, "--out", tmp_path / "out")
    assert said.status == 1
    assert "two test pieces of a that last 8.5 s, found 1" in said.complaint
    assert not (tmp_path / "out").exists()
