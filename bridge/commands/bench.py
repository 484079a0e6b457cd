"""``umt bench``: how fast decoder, encoder and whole chain run on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands import bench_gpu
from bridge.commands.usage import UsageError

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement

app = typer.Typer(
    name="bench",
    help="Measure throughput on this machine, beside what the machine could do at best.",
    epilog="Example: umt bench decode --shape 20/64/128",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
Task = tuple[str, "Callable[..., Measurement]"]
"""A name, and what measures it, given ``progress``."""

ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=2,
        help="Threads that work together.  [default: 2 for decoders of 128 channels, else 1]",
    ),
]
DtypeOption = Annotated[
    str, typer.Option("--dtype", metavar="TYPE", help="Weights: int8 or float32.")
]
StreamsOption = Annotated[
    int,
    typer.Option(
        "--streams",
        metavar="N",
        min=1,
        max=64,
        help="Independent streams, one after another; rates are their sum.",
    ),
]
RunsOption = Annotated[
    int, typer.Option("--runs", metavar="N", min=1, max=1000, help="Timed runs; see the median.")
]
SecondsOption = Annotated[
    float,
    typer.Option("--seconds", metavar="S", min=0.01, max=600, help="Audio in one run of a stream."),
]
ProfileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Network, may be repeated: live, paper or tiny.  [default: live and paper]",
    ),
]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the measurements here."),
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw times real time here, as PNG."),
]


@app.command("decode", epilog="Example: umt bench decode --shape 20/64/128 --json decode.json")
def decode(
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            metavar="L/R/S",
            help="Layers, residual and skip channels; may be repeated.  [default: six of them]",
        ),
    ] = None,
    threads: ThreadsOption = None,
    dtype: DtypeOption = "int8",
    streams: StreamsOption = 1,
    runs: RunsOption = 7,
    seconds: SecondsOption = 0.5,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines",
            help="Measure PyTorch, onnxruntime and plain loops as well.",
        ),
    ] = True,
    json_path: JsonOption = None,
    plot_path: PlotOption = None,
) -> None:
    """Sampling: the autoregressive decoder alone, with random weights."""
    from benchmarks.baselines import BASELINES
    from benchmarks.measure import Effort, measure_decoder, sampling_threads, skipped_baselines
    from benchmarks.shapes import DEFAULT_SHAPES, config_of_shape
    from bridge.console import note
    from realtime.decoder import require_kind

    require_kind(dtype, threads or 1)
    configs = [config_of_shape(name) for name in shape or DEFAULT_SHAPES]
    # All before the first is measured: nothing that took minutes is lost to a later one.
    shared = [sampling_threads(config, threads) for config in configs]
    if baselines:
        for name, reason in skipped_baselines().items():
            note(f"{name} is left out: {reason}, not installed")
    measure = partial(
        measure_decoder,
        dtype=dtype,
        streams=streams,
        effort=Effort(runs, seconds),
        baselines=BASELINES if baselines else (),
    )
    tasks: list[Task] = [
        (config.profile, partial(measure, config, threads=together))
        for config, together in zip(configs, shared, strict=True)
    ]
    _run(tasks, json_path, plot_path)


@app.command("encode", epilog="Example: umt bench encode --profile live")
def encode(
    profile: ProfileOption = None,
    threads: ThreadsOption = None,
    dtype: DtypeOption = "int8",
    streams: StreamsOption = 1,
    runs: RunsOption = 7,
    seconds: SecondsOption = 0.5,
    json_path: JsonOption = None,
    plot_path: PlotOption = None,
) -> None:
    """The streaming encoder alone, hop by hop."""
    from benchmarks.measure import Effort, measure_encoder

    effort = Effort(runs, seconds)
    tasks = _of_profiles(measure_encoder, profile, threads, dtype, streams=streams, effort=effort)
    _run(tasks, json_path, plot_path)


@app.command("chain", epilog="Example: umt bench chain --profile paper --threads 2")
def chain(
    profile: ProfileOption = None,
    threads: ThreadsOption = None,
    dtype: DtypeOption = "int8",
    streams: StreamsOption = 1,
    runs: RunsOption = 7,
    seconds: SecondsOption = 0.5,
    json_path: JsonOption = None,
    plot_path: PlotOption = None,
) -> None:
    """The whole chain of live playing, hop by hop: time a hop takes, and share of a core."""
    from benchmarks.measure import Effort, measure_chain

    effort = Effort(runs, seconds)
    tasks = _of_profiles(measure_chain, profile, threads, dtype, streams=streams, effort=effort)
    _run(tasks, json_path, plot_path)


app.command("gpu", epilog=bench_gpu.EPILOG)(bench_gpu.gpu)


def _of_profiles(
    measure: Callable[..., Measurement],
    names: Sequence[str] | None,
    threads: int | None,
    dtype: str,
    **more: Any,
) -> list[Task]:
    """A task for each profile, by default for those that people play."""
    from benchmarks.measure import sampling_threads
    from model.config import profile
    from realtime.decoder import require_kind

    require_kind(dtype, threads or 1)
    tasks: list[Task] = []
    for config in map(profile, names or ("live", "paper")):
        shared = threads or sampling_threads(config)
        task = partial(measure, config, dtype=dtype, threads=shared, **more)
        tasks.append((config.profile, task))
    return tasks


def _run(tasks: Sequence[Task], json_path: Path | None, plot_path: Path | None) -> None:
    """Measure one after the other, show a table, and write what was asked for."""
    from bridge.console import say, show
    from bridge.json_text import json_text
    from bridge.outputs import new_file, shown

    if json_path is not None and json_path == plot_path:
        raise UsageError(f"--json and --plot both name {shown(json_path)}; name two files")
    with ExitStack() as files:
        # Opened first: a place that cannot be written is found before minutes of measuring.
        json_part = files.enter_context(new_file(json_path)) if json_path else None
        plot_part = files.enter_context(new_file(plot_path)) if plot_path else None
        rows = _measured(tasks)
        for table in (_table(rows), _baseline_table(rows), _hop_table(rows)):
            if table.row_count:
                show(table)
        say(f"medians of {rows[0].runs} runs")
        if json_part:
            json_part.write_text(json_text([row.to_dict() for row in rows]), encoding="utf-8")
        if plot_part:
            from bridge.bench_plot import draw

            draw(rows, plot_part)
    for path in (json_path, plot_path):
        if path is not None:
            say(f"written to {shown(path)}")


def _measured(tasks: Sequence[Task]) -> list[Measurement]:
    """Run every task, showing how far it is."""
    from benchmarks.timing import silent
    from bridge.console import on_terminal, working

    rows = []
    for at, (name, measure) in enumerate(tasks, 1):
        text = f"measuring {name}, {at} of {len(tasks)}"
        if on_terminal():
            rows.append(_beside_a_bar(measure, text))
        else:
            with working(text):
                rows.append(measure(progress=silent))
    return rows


def _beside_a_bar(measure: Callable[..., Measurement], text: str) -> Measurement:
    from bridge.console import progress_bar

    bar = progress_bar()
    # Drawn when there is progress, which is never told while something is timed, and not by a
    # thread beside it.
    bar.live.auto_refresh = False
    with bar:
        row = bar.add_task(text, total=1.0)
        bar.refresh()
        return measure(progress=lambda done: bar.update(row, completed=done, refresh=True))


def _table(rows: Sequence[Measurement]) -> Any:
    from rich.table import Table

    columns = ("", "shape", "weights", "threads", "streams", "samples/s", "min to max")
    table = Table(*columns, "x real time", "GMAC/s", "of roofline")
    table.columns[columns.index("min to max")].no_wrap = True
    for row in rows:
        table.add_row(
            row.part,
            row.shape,
            row.dtype,
            str(row.threads),
            str(row.streams),
            f"{row.samples_per_s:,.0f}",
            f"{row.samples_per_s_min:,.0f} to {row.samples_per_s_max:,.0f}",
            f"{row.x_realtime:.2f}",
            f"{row.gmac_per_s:.1f}",
            f"{100 * row.fraction_of_roofline:.0f} %",
        )
    return table


def _baseline_table(rows: Sequence[Measurement]) -> Any:
    from rich.table import Table

    columns = ("shape", "baseline, float32", "threads", "samples/s", "min to max")
    table = Table(*columns, "ours is faster")
    for row in rows:
        for name, other in row.baselines.items():
            spread = f"{other.min:,.0f} to {other.max:,.0f}"
            rate, ratio = f"{other.samples_per_s:,.0f}", f"{other.ratio:.1f} times"
            table.add_row(row.shape, name, str(other.threads), rate, spread, ratio)
    return table


def _hop_table(rows: Sequence[Measurement]) -> Any:
    from rich.table import Table

    names = ("p50", "p95", "p99", "max")
    table = Table("shape", "a hop lasts, ms", *(f"{name}, ms" for name in names), "of a core")
    for row in rows:
        if row.hop_ms is not None and row.core_share is not None:
            times = (f"{row.hop_ms[name]:.2f}" for name in names)
            table.add_row(
                row.shape, f"{row.hop_ms['hop']:g}", *times, f"{100 * row.core_share:.0f} %"
            )
    return table
