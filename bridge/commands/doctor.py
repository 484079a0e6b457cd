"""``umt doctor``: what is here, and whether one can play with it."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands.options import BundleOption, JsonOption

if TYPE_CHECKING:
    from bridge.doctor import Finding
    from bridge.doctor_pace import Trial

EPILOG = "Example: umt doctor --bundle runs/mine/bundle --json doctor.json"
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    bundle: BundleOption = None,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", metavar="S", min=0.1, max=600, help="Of all measurements together."
        ),
    ] = 4.0,
    osc_port: Annotated[
        int,
        typer.Option(
            "--osc-port", metavar="P", min=0, max=65535, help="UDP port that is to be free."
        ),
    ] = 9000,
    json_path: JsonOption = None,
) -> None:
    """What this machine has for playing live, what is amiss, and what to do about it.

    ok: as it should be. warn: it plays, but not as well as it could. fail: umt live would not play
    as things are; then the exit status is 1. The bundle and each profile, with random weights, are
    timed on one thread and on two.
    """
    from bridge.console import say, show
    from bridge.json_text import json_text
    from bridge.outputs import new_file, shown
    from model.errors import UmtError

    with ExitStack() as files:
        # Opened first: a place that cannot be written is found before anything is measured.
        part = files.enter_context(new_file(json_path)) if json_path else None
        findings = _findings(bundle, seconds, osc_port)
        failures = [finding.name for finding in findings if finding.verdict == "fail"]
        show(_table(findings))
        if part:
            part.write_text(json_text(_facts(findings)), encoding="utf-8")
    if json_path:
        say(f"written to {shown(json_path)}")
    if failures:
        raise UmtError(f"umt live would not play here as things are: {', '.join(failures)}")
    say("umt live can play here")


def _findings(bundle: Path | None, seconds: float, osc_port: int) -> list[Finding]:
    from bridge.console import working
    from bridge.doctor import looked, looks
    from bridge.doctor_pace import bundle_finding, trials
    from bridge.loading import compiling_shown

    rows: list[Finding] = []
    for name, look in looks(osc_port):
        with working(f"looking at: {name}"):
            rows += looked(name, look)
    with working("looking at: the bundle"):
        row, loaded = bundle_finding(bundle)
    with compiling_shown():
        prepared = trials(loaded)
    return [*rows, row, *_paces(prepared, seconds)]


def _paces(prepared: list[Trial], seconds: float) -> list[Finding]:
    from bridge.console import on_terminal, progress_bar, working
    from bridge.doctor_pace import pace_findings

    if not on_terminal():
        with working(f"measuring, about {seconds:g} s"):
            return pace_findings(prepared, seconds, lambda _: None)
    bar = progress_bar()
    # Drawn between measurements, and not by a thread beside them.
    bar.live.auto_refresh = False
    with bar:
        task = bar.add_task("measuring", total=len(prepared))
        done = count()

        def advance(what: str) -> None:
            bar.update(task, description=f"measuring {what}", completed=next(done), refresh=True)

        return pace_findings(prepared, seconds, advance)


def _facts(findings: list[Finding]) -> dict[str, Any]:
    from bridge.version import source_commit, umt_version
    from realtime.machine import describe_machine

    return {
        "umt": {"version": umt_version(), "commit": source_commit()},
        "machine": describe_machine(),
        "can_play": all(finding.verdict != "fail" for finding in findings),
        "findings": [finding.to_dict() for finding in findings],
    }


def _table(findings: list[Finding]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "what", "found", "what to do")
    for column in table.columns:
        column.overflow = "fold"
    area = findings[0].area
    for finding in findings:
        if finding.area != area:
            table.add_section()
            area = finding.area
        style = _STYLES[finding.verdict]
        verdict = f"[{style}]{finding.verdict}[/]"
        table.add_row(verdict, *map(escape, (finding.name, finding.found, finding.remedy)))
    return table
