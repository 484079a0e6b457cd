"""``umt eval blend``: two pieces blended in the embedding; is the seam heard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands.extras import needs
from bridge.commands.options import (
    DEFAULT_BACKEND,
    BackendOption,
    BundleOption,
    DataDirOption,
    JsonOption,
    PlotOption,
    SeedOption,
    TargetOption,
)
from bridge.commands.segments import (
    behind_a_bar,
    draw_report,
    require_places,
    targets_of,
    write_report,
)

if TYPE_CHECKING:
    from evaluation.blend import Blended, Pair, Samples
    from model.bundle import Bundle

EPILOG = "Example: umt eval blend --to strings --out blends --plot blends/blend.png"


def blend(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the sounds go.")] = Path(
        "blend-out"
    ),
    data_dir: DataDirOption = Path("data"),
    bundle: BundleOption = None,
    to: TargetOption = None,
    pairs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Pairs of pieces in each domain.")
    ] = 4,
    seed: SeedOption = 0,
    backend: BackendOption = DEFAULT_BACKEND,
    json_path: JsonOption = None,
    plot_path: PlotOption = None,
) -> None:
    """Let one test piece go over into another in the embedding, played by their domain's decoder.

    As in the paper: 3.5 s of one, 1.5 s of both, weighted linearly, 3.5 s of the other. The peak of
    the spectral flux in the transition over its median elsewhere stands beside a hard splice of the
    two translations (worst) and translations without a seam (ceiling), and beside the same of the
    music itself. Blends and splices are written as WAV.
    """
    from bridge.console import say, show
    from bridge.loading import load_backend
    from bridge.outputs import shown
    from model.bundle import load_bundle

    with needs("train"):
        from bridge.blend_plot import draw_blend
        from evaluation.blend import blend as blend_pair
        from evaluation.blend import means

    require_places(json_path, plot_path, out / "blend.wav")
    network = load_bundle(bundle)
    targets = targets_of(network, to)
    chosen = _pairs(network, data_dir, targets, pairs, seed)
    opened = load_backend(backend, network)

    def play(tick: Callable[[], None]) -> list[Blended]:
        results = []
        for number, pair in enumerate(chosen):
            domain = network.domain_index(pair.domain)
            results.append(blend_pair(opened, domain, pair, seed + number))
            tick()
        return results

    results: list[Blended] = behind_a_bar("blending", len(chosen), play)
    by_domain = {
        name: means([one for one in results if one.pair.domain == name]) for name in targets
    }
    show(_table(by_domain))
    for line in _told(means(results)):
        say(line)
    files = _write_sounds(results, out)
    say(f"{sum(map(len, files))} sounds in {shown(out)}")
    report = {
        "backend": backend,
        "seed": seed,
        "seam": means(results),
        "domains": by_domain,
        "pairs": [_stored(one, names) for one, names in zip(results, files, strict=True)],
    }
    write_report(json_path, report)
    draw_report(plot_path, lambda path: draw_blend(results, by_domain, path))


def _pairs(
    network: Bundle, data_dir: Path, targets: Sequence[str], count: int, seed: int
) -> list[Pair]:
    import numpy as np

    from evaluation.blend import pairs_of
    from training.corpus import load_corpus

    corpus = load_corpus(data_dir, targets)
    chosen = []
    for name in targets:
        pieces: dict[str, list[Samples]] = {}
        for row, audio in zip(corpus.rows(name, "test"), corpus.audio(name, "test"), strict=True):
            pieces.setdefault(row.path, []).append(audio)
        rng = np.random.default_rng([seed, network.domain_index(name)])
        chosen += pairs_of(name, pieces, count, rng)
    return chosen


def _write_sounds(results: Sequence[Blended], out: Path) -> list[list[str]]:
    """A WAV of the blend and of the splice of every pair; the names, by pair."""
    from bridge.soundfiles import new_sound
    from evaluation.blend import BLEND, SPLICE
    from model.config import SAMPLE_RATE

    numbers: dict[str, int] = {}
    names = []
    for result in results:
        domain = result.pair.domain
        numbers[domain] = numbers.get(domain, 0) + 1
        names.append([f"{domain}-{numbers[domain]}-{row}.wav" for row in (BLEND, SPLICE)])
        for row, name in zip((BLEND, SPLICE), names[-1], strict=True):
            with new_sound(out / name, SAMPLE_RATE, "PCM_16") as file:
                file.write(result.sounds[row][0])
    return names


def _told(seams: Mapping[str, float]) -> list[str]:
    """What the figures say, in a line or two."""
    from evaluation.blend import BLEND, SPLICE, UNSPLICED

    lines = [
        f"peak of the flux over its median: blend {seams[BLEND]:.2f}, "
        f"splice {seams[SPLICE]:.2f}, without a seam {seams[UNSPLICED]:.2f}"
    ]
    if seams[SPLICE] <= seams[UNSPLICED]:
        lines.append("these translations move so much that even a hard splice does not stand out")
    return lines


def _stored(result: Blended, names: Sequence[str]) -> dict[str, Any]:
    return {
        "domain": result.pair.domain,
        "pieces": result.pair.pieces,
        "files": list(names),
        "seam": result.seams,
    }


def _table(by_domain: Mapping[str, Mapping[str, float]]) -> Any:
    from rich.table import Table

    from evaluation.blend import ROWS

    heads = ("blend", "hard splice", "no seam", "music, spliced", "music")
    table = Table("domain", *heads, title="Peak of the flux in the transition over its median")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, seams in by_domain.items():
        table.add_row(name, *(f"{seams[row]:.2f}" for row in ROWS))
    return table
