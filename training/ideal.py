"""The translation perfect players would give: a rendered take on another domain's instruments.

It is the ceiling that translations are scored against.
"""

from __future__ import annotations

from training.catalogue import RECIPES
from training.jobs import Library, circumstances_of, render_take
from training.manifest import FileRow
from training.render import Samples
from training.scores import read_score
from training.sources import CORPUS_FOLDER
from training.takes import Players, takes


def played_by(row: FileRow, library: Library, *players: Players) -> Samples:
    """(time,) float32 at 16 kHz: what a rendered file would be, had ``players`` played it.

    row: a file of a built-in domain.  players: the first plays the file's own notes, each other
    what was heard of the one before, octaves changed where a note is out of reach; the last is
    heard. The same times, tuning and room, and for a domain's instruments the same SoundFont.
    """
    recipe = RECIPES[row.domain]
    work = row.path.removeprefix(f"{CORPUS_FOLDER}/")
    score = read_score(library.works[work])
    name = row.file.rpartition("/")[2]
    take = next(one for one in takes(recipe, row.split, work, len(score.parts)) if one.name == name)
    about = circumstances_of(take, tuple(library.fonts), row.seed)
    return render_take(take, recipe, score, about, library.fonts[about.font], row.seed, players)


def players_of(domain: str) -> Players:
    """The instruments of a built-in domain."""
    return Players(RECIPES[domain].instruments)


def is_rendered(row: FileRow) -> bool:
    """Whether a file came from a score, so that others can play it too."""
    return row.domain in RECIPES and row.path.startswith(f"{CORPUS_FOLDER}/")
