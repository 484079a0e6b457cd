"""Playing from the score: determinism, and how far a performance departs from what is written."""

from fractions import Fraction
from itertools import pairwise
from statistics import median

import numpy as np
import pytest

from training.catalogue import RECIPES, Recipe
from training.humanise import Manner, perform, tempo_for
from training.manifest import SPLITS
from training.scores import Note, Score
from training.takes import plain_name, play, takes


def scale(length: int = 48, parts: int = 1) -> list[Note]:
    return [
        Note(Fraction(step, 2), 60 - 7 * part + step % 12, Fraction(1, 2), part)
        for step in range(length)
        for part in range(parts)
    ]


def test_the_same_seed_plays_the_same_and_another_does_not() -> None:
    first, again, other = (
        perform(scale(), 96.0, Manner(), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_strict_player_keeps_the_written_time() -> None:
    strict = Manner(rubato=0.0, jitter_s=0.0, articulation=(1.0, 1.0), ritardando=0.0)
    played = perform(scale(9), 60.0, strict, np.random.default_rng(0))
    assert [note.start_s for note in played] == pytest.approx([step / 2 for step in range(9)])
    assert [note.duration_s for note in played] == pytest.approx([0.5] * 9)


def test_a_free_player_wanders_but_arrives() -> None:
    played = perform(scale(200), 60.0, Manner(), np.random.default_rng(3))
    gaps = [after.start_s - before.start_s for before, after in pairwise(played)]
    assert 0.01 < np.std(gaps[:-8]) < 0.05
    assert played[-1].start_s == pytest.approx(99.5, rel=0.05)
    assert np.mean(gaps[-3:]) > 1.05 * np.mean(gaps[:-8])


def test_dynamics_swell_within_the_range_of_midi() -> None:
    velocities = [
        note.velocity for note in perform(scale(400), 96.0, Manner(), np.random.default_rng(4))
    ]
    assert 1 <= min(velocities) < max(velocities) <= 127
    assert np.std(velocities) > 4


def test_nothing_written_is_nothing_played() -> None:
    assert perform([], 96.0, Manner(), np.random.default_rng(0)) == []


@pytest.mark.parametrize("parts", [1, 3])
def test_tempo_follows_from_the_density_of_each_part(parts: int) -> None:
    assert tempo_for(scale(parts=parts), notes_per_second=3.0) == pytest.approx(90.0)
    assert tempo_for(scale(parts=parts), notes_per_second=100.0) == 168.0


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_takes_stay_within_instruments_and_time(recipe: Recipe) -> None:
    notes = tuple(sorted(scale(800, parts=4)))
    score = Score(notes, ("",) * 4)
    kinds = []
    for take in takes(recipe, "train", "some/work.mxl", 4):
        played, voices = play(take, recipe, score, np.random.default_rng(5))
        kinds.append(take.kind)
        assert {note.part for note in played} == set(take.parts) == set(voices)
        programs = {instrument.program: instrument for instrument in recipe.instruments}
        for note in played:
            instrument = programs[voices[note.part].program]
            assert instrument.lowest <= note.pitch <= instrument.highest
        end_s = max(note.start_s + note.duration_s for note in played)
        assert 0.6 * take.longest_s < end_s < 1.25 * take.longest_s
    assert kinds == ["all", "pair", "solo1", "solo2", "solo3", "solo4"]


def test_single_lines_are_moved_over_the_whole_range() -> None:
    recipe = RECIPES["woodwind"]
    score = Score(tuple(scale(200)), ("",))
    solo = list(takes(recipe, "train", "some/work.mxl", 1))[-1]
    centres, programs = [], set()
    for seed in range(24):
        played, voices = play(solo, recipe, score, np.random.default_rng(seed))
        centres.append(median(note.pitch for note in played))
        programs.add(voices[0].program)
    assert min(centres) < 58
    assert max(centres) > 78
    assert len(programs) == len(recipe.instruments)


def test_no_work_is_used_twice_and_file_names_are_plain() -> None:
    works = [
        (recipe.name, split, work)
        for recipe in RECIPES.values()
        for split in SPLITS
        for work in recipe.works(split)
    ]
    assert len({work for _, _, work in works}) == len(works)
    names = {
        (domain, split, take.name)
        for domain, split, work in works
        for take in takes(RECIPES[domain], split, work, 4)
    }
    assert len(names) == 6 * sum(split == "train" for _, split, _ in works) + 4 * sum(
        split == "test" for _, split, _ in works
    )
    assert all(
        name.removesuffix(".wav").replace("_", "-") == plain_name(name.removesuffix(".wav"))
        for _, _, name in names
    )
