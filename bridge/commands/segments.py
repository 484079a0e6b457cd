"""What the evaluations have in common: test segments, a bar, and reports as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.translation import Segment
    from model.bundle import Bundle
    from training.corpus import Corpus
    from training.jobs import Library
    from training.manifest import FileRow
    from training.progress import Step
    from training.takes import Players


MOST_AT_ONCE = 8
"""Segments that are rendered at once: each has a SoundFont in memory."""


def targets_of(network: Bundle, to: str | None) -> tuple[str, ...]:
    """Names of the domains to play: the one asked for, by name or index, or all of them."""
    from bridge.loading import domain_index

    names = network.domain_names
    return names if to is None else (names[domain_index(network, to)],)


def behind_a_bar(text: str, total: int, work: Callable[[Callable[[], None]], Any]) -> Any:
    """Run ``work``, which is given what moves a bar of ``total`` steps on by one."""
    from bridge.console import note, progress_bar

    with progress_bar() as bar:
        task = bar.add_task(text, total=total)
        if bar.disable:
            note(f"{text} ...")
        return work(lambda: bar.advance(task))


def segments_of(
    corpus: Corpus,
    data_dir: Path,
    names: Sequence[str],
    count: int,
    seed: int,
    tick: Callable[[], None],
    with_ideals: bool,
) -> list[Segment]:
    """The same segments for the same seed, with the ideal translations of those from scores.

    corpus: of ``data_dir``, with the domains ``names``.
    """
    import numpy as np

    from evaluation.translation import SEGMENT_S, Segment, starts_of
    from model.config import SAMPLE_RATE
    from training.catalogue import RECIPES
    from training.ideal import is_rendered, players_of
    from training.prepare import fetch_library

    known = [name for name in names if with_ideals and name in RECIPES]
    library = fetch_library([RECIPES[name] for name in known], data_dir, _quiet) if known else None

    def segment(name: str, index: int, start: int) -> Segment:
        row, audio = corpus.rows(name, "test")[index], corpus.audio(name, "test")[index]
        ideals = {}
        if library is not None and is_rendered(row):
            others = set(known) - {name}
            ideals = {to: _rendered(row, library, start, players_of(to)) for to in others}
        return Segment(name, audio[start : start + round(SEGMENT_S * SAMPLE_RATE)], ideals)

    return _side_by_side(
        [
            partial(segment, name, index, start)
            for number, name in enumerate(names)
            for index, start in starts_of(
                corpus.audio(name, "test"), count, np.random.default_rng([seed, number])
            )
        ],
        tick,
    )


def unseen_segments(
    corpus: Corpus,
    data_dir: Path,
    names: Sequence[str],
    count: int,
    seed: int,
    tick: Callable[[], None],
) -> list[Segment]:
    """Segments of the domains' test music, played by each instrument that no domain has.

    With their ideal translations: what was heard of the instrument, played by a domain's. Raises
    DataError if no test recording comes from a score, or an instrument's sounds cannot be had.
    """
    import numpy as np

    from evaluation.translation import Segment, starts_of
    from model.errors import DataError
    from training.catalogue import RECIPES
    from training.ideal import is_rendered, players_of
    from training.prepare import fetch_library
    from training.unseen import unseen_players

    known = [name for name in names if any(map(is_rendered, corpus.rows(name, "test")))]
    if not known:
        raise DataError("no test recording comes from a score; unseen instruments need one to play")
    library = fetch_library([RECIPES[name] for name in known], data_dir, _quiet)

    def segment(instrument: str, strangers: Players, row: FileRow, start: int) -> Segment:
        played = partial(_rendered, row, library, start, strangers)
        return Segment(instrument, played(), {to: played(players_of(to)) for to in known})

    jobs = []
    for number, (instrument, strangers) in enumerate(unseen_players(data_dir / "packages").items()):
        rng = np.random.default_rng([seed, 1, number])
        for place in range(count):
            # Each instrument begins with another domain's music.
            name = known[(number + place) % len(known)]
            rows, audio = corpus.rows(name, "test"), corpus.audio(name, "test")
            scored = [i for i, row in enumerate(rows) if is_rendered(row)]
            index = int(rng.permutation(scored)[0])
            ((_, start),) = starts_of([audio[index]], 1, rng)
            jobs.append(partial(segment, instrument, strangers, rows[index], start))
    return _side_by_side(jobs, tick)


def _rendered(row: FileRow, library: Library, start: int, *players: Players) -> Any:
    """The segment of a test recording that begins at ``start``, played by others."""
    import numpy as np

    from evaluation.translation import SEGMENT_S
    from model.config import SAMPLE_RATE
    from training.ideal import played_by

    length = round(SEGMENT_S * SAMPLE_RATE)
    audio = played_by(row, library, *players)[start : start + length]
    return np.pad(audio, (0, length - len(audio)))


def _side_by_side(jobs: Sequence[Callable[[], Segment]], tick: Callable[[], None]) -> list[Segment]:
    """What the jobs make, in their order, several at once.

    Most of the time is the synthesiser's, a process of its own; so threads are enough.
    """
    from concurrent.futures import ThreadPoolExecutor

    from realtime.machine import available_cores

    with ThreadPoolExecutor(min(available_cores(), MOST_AT_ONCE)) as pool:
        given = [pool.submit(job) for job in jobs]
        try:
            segments = []
            for one in given:
                segments.append(one.result())
                tick()
            return segments
        finally:
            for one in given:
                one.cancel()


def _quiet(_: Step) -> None:
    """Fetching what is there already needs no report."""


def require_places(*paths: Path | None) -> None:
    """Refuse, before any work, files that could not be written."""
    from bridge.outputs import require_place

    for path in paths:
        if path is not None:
            require_place(path)


def write_report(path: Path | None, report: Mapping[str, Any]) -> None:
    """Write a report as JSON, with the commit and the machine; nothing without a path."""
    from benchmarks.commit import current_commit
    from bridge.console import say
    from bridge.json_text import json_text
    from bridge.outputs import new_file, shown
    from realtime.machine import describe_machine

    if path is None:
        return
    about = {"commit": current_commit(), "machine": describe_machine()}
    with new_file(path) as part:
        part.write_text(json_text(about | dict(report)), encoding="utf-8")
    say(f"written to {shown(path)}")


def draw_report(path: Path | None, draw: Callable[[Path], None]) -> None:
    """Let ``draw`` make a picture at ``path``; nothing without one."""
    from bridge.console import say
    from bridge.outputs import new_file, shown

    if path is None:
        return
    with new_file(path) as part:
        draw(part)
    say(f"drawn to {shown(path)}")
