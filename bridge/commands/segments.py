"""What the evaluations have in common: test segments, a bar, and reports as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.translation import Segment
    from model.bundle import Bundle
    from training.corpus import Corpus
    from training.manifest import FileRow
    from training.progress import Step
    from training.takes import Players


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
    from training.ideal import is_rendered, played_by, players_of
    from training.prepare import fetch_library

    known = [name for name in names if with_ideals and name in RECIPES]
    library = fetch_library([RECIPES[name] for name in known], data_dir, _quiet) if known else None
    length = round(SEGMENT_S * SAMPLE_RATE)
    chosen = [
        (name, index, start)
        for number, name in enumerate(names)
        for index, start in starts_of(
            corpus.audio(name, "test"), count, np.random.default_rng([seed, number])
        )
    ]

    def cut(one: tuple[str, int, int]) -> Segment:
        name, index, start = one
        row, audio = corpus.rows(name, "test")[index], corpus.audio(name, "test")[index]
        ideals = {}
        if library is not None and is_rendered(row):
            for target in set(known) - {name}:
                ideal = played_by(row, library, players_of(target))
                ideals[target] = _exactly(ideal[start : start + length], length)
        return Segment(name, audio[start : start + length], ideals)

    return _side_by_side(cut, chosen, tick)


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

    from evaluation.translation import SEGMENT_S, Segment, starts_of
    from model.config import SAMPLE_RATE
    from model.errors import DataError
    from training.catalogue import RECIPES
    from training.ideal import is_rendered, played_by, players_of
    from training.prepare import fetch_library
    from training.unseen import unseen_players

    known = [name for name in names if any(map(is_rendered, corpus.rows(name, "test")))]
    if not known:
        raise DataError("no test recording comes from a score; unseen instruments need one to play")
    library = fetch_library([RECIPES[name] for name in known], data_dir, _quiet)
    length = round(SEGMENT_S * SAMPLE_RATE)
    chosen = []
    for number, (instrument, strangers) in enumerate(unseen_players(data_dir / "packages").items()):
        rng = np.random.default_rng([seed, 1, number])
        for place in range(count):
            # Each instrument begins with another domain's music.
            name = known[(number + place) % len(known)]
            rows, audio = corpus.rows(name, "test"), corpus.audio(name, "test")
            scored = [i for i, row in enumerate(rows) if is_rendered(row)]
            index = int(rng.permutation(scored)[0])
            ((_, start),) = starts_of([audio[index]], 1, rng)
            chosen.append((instrument, strangers, rows[index], start))

    def cut(one: tuple[str, Players, FileRow, int]) -> Segment:
        instrument, strangers, row, start = one
        heard, *ideals = (
            _exactly(played_by(row, library, *players)[start:][:length], length)
            for players in [(strangers,), *((strangers, players_of(to)) for to in known)]
        )
        return Segment(instrument, heard, dict(zip(known, ideals, strict=True)))

    return _side_by_side(cut, chosen, tick)


def _side_by_side(
    cut: Callable[[Any], Segment], chosen: Sequence[Any], tick: Callable[[], None]
) -> list[Segment]:
    """What ``cut`` makes of each, in their order, as many at once as there are cores.

    Rendering is the synthesiser's work, a process of its own: threads are enough.
    """
    from concurrent.futures import ThreadPoolExecutor

    from realtime.machine import available_cores

    segments = []
    with ThreadPoolExecutor(available_cores()) as pool:
        for segment in pool.map(cut, chosen):
            segments.append(segment)
            tick()
    return segments


def _exactly(audio: Any, length: int) -> Any:
    """The audio, with silence after it where it is too short."""
    import numpy as np

    return np.pad(audio, (0, length - len(audio)))


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
