"""``umt bench gpu``: whether the GPU's samplers are right, and how fast."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.commands.extras import needs
from bridge.commands.options import JsonOption

EPILOG = "Example: umt bench gpu --shape 20/64/64 --streams 1 --json gpu.json"
_STDERR = 2


def gpu(
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            metavar="L/R/S",
            help="Layers, residual and skip channels; may be repeated.  [default: five of them]",
        ),
    ] = None,
    streams: Annotated[
        list[int] | None,
        typer.Option(
            "--streams",
            metavar="N",
            min=1,
            help="Streams at once; may be repeated.  [default: 1, 8 and 64]",
        ),
    ] = None,
    samplers: Annotated[
        list[str] | None,
        typer.Option(
            "--sampler",
            metavar="NAME",
            help="persistent, pipeline, fused_layer, torch-eager or torch-compile; may be "
            "repeated.  [default: all that run here]",
        ),
    ] = None,
    hops: Annotated[
        int, typer.Option("--hops", metavar="N", min=1, help="Hops of each stream in one run.")
    ] = 20,
    minutes: Annotated[
        float, typer.Option("--minutes", metavar="M", min=0.1, help="Begin no row after these.")
    ] = 5.0,
    json_path: JsonOption = None,
) -> None:
    """The GPU's samplers: each checked against the reference, and timed.

    Times stand beside what was predicted (docs/kernels.md) and PyTorch's. A sampler that is wrong,
    or fails, is an error at the end; the others are measured. --json is written row by row.
    """
    from bridge.console import note, say, working
    from bridge.outputs import require_place, shown
    from model.errors import UmtError

    if json_path is not None:
        require_place(json_path)
    with needs("gpu"):
        from benchmarks import gpu as bench
        from benchmarks.gpu_figures import device_figures

    asked = bench.tasks(
        shapes or bench.SHAPES, streams or bench.STREAMS, samplers or bench.MEASURED
    )
    todo = [task for task in asked if task.fits]
    left_out = {task.name: "cannot run on this device" for task in asked if not task.fits}
    rows: list[dict[str, Any]] = []
    report = {**bench.machine_report(), "results": rows, "left_out": left_out}
    begun = time.monotonic()
    for at, task in enumerate(todo):
        if time.monotonic() - begun > 60 * minutes:
            late = f"was not begun within {minutes:g} minutes"
            left_out.update({task.name: late for task in todo[at:]})
            break
        with working(f"{task.name}, {at + 1} of {len(todo)}"), _ended_after(bench.longest_row_s()):
            rows.append(bench.described(task) | _tried(partial(bench.measured, task, hops)))
        bench.compare(rows)
        say(_line(rows[-1]))
        if json_path is not None:
            _write(json_path, report)
    for name, reason in left_out.items():
        note(f"{name} {reason}")
    with _ended_after(bench.longest_row_s()):
        report["measured"] = figures = _tried(device_figures)
    if json_path is not None:
        _write(json_path, report)
        say(f"written to {shown(json_path)}")
    if bad := [row for row in rows if "failed" in row or row.get("right") is False]:
        names = ", ".join(f"{row['shape']} {row['sampler']} x {row['streams']}" for row in bad)
        raise UmtError(f"{len(bad)} of {len(rows)} rows are wrong or failed: {names}")
    if "failed" in figures:
        raise UmtError(f"an exchange and a launch could not be measured: {figures['failed']}")


def _tried(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured, or why it was not: what a device refuses keeps nothing else from it."""
    try:
        return measure()
    except Exception as error:
        return {"failed": " ".join(f"{type(error).__name__}: {error}".split())}


def _line(row: dict[str, Any]) -> str:
    name = f"{row['shape']:>11} {row['sampler']:>13} x {row['streams']:<3}"
    if "failed" in row:
        return f"{name} failed: {row['failed']}"
    line = f"{name} {row['us_per_sample']:9.1f} us a sample, {row['x_realtime']:6.2f} x real time"
    if "right" not in row:
        return line
    right = "" if row["right"] else "WRONG, its time means nothing: "
    return (
        f"{line}, predicted {row['predicted_us']:.1f} us; "
        f"{right}logits within {row['largest_error']:.1e}"
    )


def _write(path: Path, report: dict[str, Any]) -> None:
    from bridge.json_text import json_text
    from bridge.outputs import new_file

    with new_file(path) as part:
        part.write_text(json_text(report), encoding="utf-8")


@contextmanager
def _ended_after(seconds: float | None) -> Iterator[None]:
    """End the process, with what every thread was doing, if the device does not answer.

    A kernel that waits for ever cannot be interrupted in any other way.
    """
    if seconds is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
