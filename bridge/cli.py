"""The command line ``umt``, and the one place where errors become a line and an exit status.

Exit status 0 is success. 2 is a command line that cannot be meant: an unknown option, command,
domain or backend, a value out of range, an input path that does not exist. Everything that goes
wrong after that is 1, an interruption 130, SIGTERM 143.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from bridge.commands import (
    add_domain,
    bench,
    data,
    demo,
    devices,
    doctor,
    domains,
    evaluate,
    export,
    latency,
    live,
    midi,
    replay,
    train,
    translate,
)
from bridge.commands.usage import UsageError
from bridge.devices import DeviceLost
from model.errors import ConfigError, UmtError, UnknownDomain

app = typer.Typer(
    name="umt",
    help="""Live music translation: play one instrument, hear another.

    Exit status: 0 is success, 2 a command line that cannot be meant (an unknown option, domain or
    backend, a value out of range, an input path that does not exist), 130 an interruption, 1
    everything else. Errors are one line; --debug adds the traceback.""",
    epilog="Example: umt demo --out demo-out",
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("demo", epilog=demo.EPILOG)(demo.demo)
app.command("live", epilog=live.EPILOG)(live.live)
app.command("translate", epilog=translate.EPILOG)(translate.translate)
app.command("replay", epilog=replay.EPILOG)(replay.replay)
app.command("latency", epilog=latency.EPILOG)(latency.latency)
app.command("devices", epilog=devices.EPILOG)(devices.devices)
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
app.command("domains", epilog=domains.EPILOG)(domains.domains)
app.command("train", epilog=train.EPILOG)(train.train)
app.command("add-domain", epilog=add_domain.EPILOG)(add_domain.add_domain)
app.add_typer(data.app, name="data")
app.add_typer(evaluate.app, name="eval")
app.add_typer(bench.app, name="bench")
app.add_typer(export.app, name="export")
app.add_typer(midi.app, name="midi")

INTERRUPTED = 128 + signal.SIGINT
_BAD_USAGE = (UsageError, UnknownDomain, ConfigError)
# What typer raises for a bad command line; its own name for it has changed between versions.
_TYPER_USAGE = typer.BadParameter.__mro__[1]


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; in any place.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Live music translation: play one instrument, hear another."""
    del debug  # Read by ``main``, where errors arrive.
    if version:
        from bridge.version import umt_version

        print(f"umt {umt_version()}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    before = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in before
    rest = [word for word in before if word != "--debug"] + given[len(before) :]
    previous = signal.signal(signal.SIGTERM, _end)
    try:
        status = app(rest, prog_name="umt", standalone_mode=False)
        sys.stdout.flush()
        if status == INTERRUPTED:
            # typer turns Ctrl-C into a status and says nothing.
            _complain("interrupted")
    except BaseException as error:
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        return _status_of(error)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return int(status or 0)


def _status_of(error: BaseException) -> int:
    """The exit status of whatever ended a command, after saying what it was in one line."""
    if isinstance(error, _TYPER_USAGE):
        _complain(error.format_message())  # type: ignore[attr-defined]
        return 2
    if isinstance(error, UmtError):
        _complain(str(error))
        if isinstance(error, DeviceLost):
            _leave_at_once()
        return 2 if isinstance(error, _BAD_USAGE) else 1
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        _complain("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has gone; the interpreter must not meet the same pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, OSError) and error.strerror:
        _complain(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
        return 1
    _complain(f"internal error: {type(error).__name__}: {error}; --debug shows where")
    return 1


def _complain(message: str) -> None:
    line = " ".join(message.split())
    if line:
        print(f"umt: {line}", file=sys.stderr, flush=True)


def _leave_at_once() -> None:
    # PortAudio shuts down when the interpreter ends, and hangs or aborts if its server has died.
    sys.stdout.flush()
    os._exit(1)


def _end(signum: int, _: object) -> None:
    raise SystemExit(128 + signum)
