"""The command line: help with examples, one line for every error, and the right exit status."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import soundfile
import typer

import bridge.console
import bridge.loading
import model.bundle
from bridge import cli
from bridge.commands import live as live_command
from bridge.console import working
from bridge.loading import compiling_shown, load_backend
from model.bundle import Bundle, Domain, random_bundle, save_bundle
from model.config import profile
from model.errors import AudioFileError, DataError, UmtError, UnknownDomain
from tests.command_line import ROOT, start_umt, umt
from tests.jack import wait_until


@pytest.fixture(scope="module")
def bundle_path(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle")
    save_bundle(tiny_bundle, path)
    return path


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of the program as the words that start it, groups included."""
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


ALL_COMMANDS = list(commands(typer.main.get_command(cli.app)))


def test_the_commands_are_these() -> None:
    lines = {" ".join(words) for words in ALL_COMMANDS}
    assert lines >= {"demo", "live", "translate", "domains", "train", "data prepare", "eval nll"}


@pytest.mark.parametrize("words", ALL_COMMANDS, ids=" ".join)
def test_every_command_has_help_and_every_one_that_runs_an_example(words: tuple[str, ...]) -> None:
    said = umt(*words, "--help")
    assert said.status == 0
    assert f"umt {' '.join(words)}".strip() in " ".join(said.out.split())
    if words not in (("data",), ("eval",)):
        assert "Example: umt" in said.out


def test_no_words_show_the_help() -> None:
    said = umt()
    assert said.status == 0
    assert "translate" in said.out


def test_the_version_is_shown() -> None:
    assert umt("--version").out.startswith("umt ")


@pytest.mark.parametrize(
    "words",
    [
        ("sing",),
        ("--loud",),
        ("translate",),
        ("translate", "--to"),
        ("translate", "in.wav", "out.wav", "more.wav", "--to", "a"),
        ("domains", "--bundle"),
        ("live", "--block", "-1"),
        ("live", "--block", "many"),
        ("live", "--osc-port", "65536"),
        ("live", "--threads", "3"),
        ("demo", "--threads", "0"),
        ("live", "--cpus", ""),
        ("live", "--cpus", "1,,2"),
        ("live", "--cpus", "all"),
        ("live", "--cpus", "4096"),
        ("live", "--temperature", "3"),
        ("demo", "--performance", "nowhere.wav"),
        ("data", "prepare", "--wav-dir", "no equals sign"),
        ("data", "prepare", "--wav-dir", "mine=nowhere"),
    ],
    ids=" ".join,
)
def test_a_command_line_that_cannot_be_meant_is_status_2(
    words: tuple[str, ...],
) -> None:
    said = umt(*words)
    assert said.status == 2
    assert said.complaint
    assert not said.out


def raising(error: BaseException) -> Any:
    def load_bundle(*_: object) -> None:
        raise error

    return load_bundle


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UmtError("it broke"), 1, "umt: it broke"),
        (AudioFileError("a.wav is\nodd"), 1, "umt: a.wav is odd"),
        (DataError("no data"), 1, "umt: no data"),
        (UnknownDomain("no domain 'x'"), 2, "umt: no domain 'x'"),
        (KeyboardInterrupt(), 130, None),
        (PermissionError(13, "Permission denied", "/x"), 1, "umt: Permission denied: /x"),
        (MemoryError(), 1, "umt: internal error: MemoryError: ; --debug shows where"),
        (ZeroDivisionError("by 0"), 1, "umt: internal error: ZeroDivisionError: by 0; "),
    ],
)
def test_every_error_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, line: str | None
) -> None:
    monkeypatch.setattr(model.bundle, "load_bundle", raising(error))
    said = umt("domains")
    assert said.status == status
    assert "Traceback" not in said.err
    if line is not None:
        assert said.complaint.startswith(line)


@pytest.mark.parametrize("words", [("--debug", "domains"), ("domains", "--debug")])
def test_debug_shows_the_traceback_beside_the_line(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(model.bundle, "load_bundle", raising(UmtError("it broke")))
    said = umt(*words)
    assert said.status == 1
    assert "Traceback" in said.err
    assert said.err.endswith("umt: it broke\n")


@pytest.mark.parametrize("words", [("--version",), ("domains", "--bundle")], ids=" ".join)
def test_a_reader_that_leaves_is_no_error_worth_a_word(
    bundle_path: Path, words: tuple[str, ...]
) -> None:
    # Buffered, as a user has it: the pipe is found broken when all is done.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    rest = [bundle_path] if "--bundle" in words else []
    process = start_umt(*words, *rest, env=buffered)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(20) == 1


def test_domains_are_listed_with_index_and_licence(tmp_path: Path, tiny_bundle: Bundle) -> None:
    rows = (Domain("horn", "a horn", -23.0, "CC0"), *tiny_bundle.domains[1:])
    weights = {"horn": tiny_bundle.decoders["a"], **tiny_bundle.decoders}
    bundle = Bundle(tiny_bundle.config, rows, tiny_bundle.encoder, weights)
    save_bundle(bundle, tmp_path)
    said = umt("domains", "--bundle", tmp_path)
    (row,) = [line for line in said.out.splitlines() if "horn" in line]
    assert all(text in row for text in ("0", "a horn", "-23.0", "CC0"))


def test_a_missing_bundle_says_what_to_do(tmp_path: Path) -> None:
    said = umt("domains", "--bundle", tmp_path / "nowhere")
    assert said.status == 1
    assert "--bundle" in said.complaint


def test_training_without_torch_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    # Other tests may have imported what imports torch.
    for name in [name for name in sys.modules if name.startswith("training.")]:
        monkeypatch.delitem(sys.modules, name)
    said = umt("train", "--out", tmp_path / "run")
    assert said.status == 1
    assert 'pip install "umt-live[train]"' in said.complaint
    assert "torch" in said.complaint


def test_the_program_starts_without_what_only_some_commands_need() -> None:
    program = (
        "import sys, bridge.cli; "
        "print(sorted({'torch', 'numba', 'sounddevice', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_quick_work_is_not_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    threads = threading.active_count()
    with working("thinking"):
        pass
    assert threading.active_count() == threads
    assert capsys.readouterr().err == ""


def test_slow_work_says_so_while_it_goes_on_and_how_long_it_took(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.console, "_WORTH_A_LINE_S", 0.01)
    with working("thinking"):
        wait_until(lambda: "..." in capsys.readouterr().err, 10, "the line")
    assert capsys.readouterr().err.startswith("thinking: ")


def test_a_score_that_cannot_be_written_is_not_worked_out(
    bundle_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    said = umt("eval", "nll", "--bundle", bundle_path, "--json", tmp_path / "file" / "nll.json")
    assert said.status == 1
    assert said.complaint.endswith("file is not a folder")


def test_recordings_become_a_domain(tmp_path: Path) -> None:
    recordings = tmp_path / "mine"
    recordings.mkdir()
    for number in range(4):
        tone = 0.2 * np.sin(np.arange(8 * 16000) * (0.05 + 0.01 * number))
        soundfile.write(recordings / f"{number}.wav", tone, 16000)
    said = umt("data", "prepare", "--data-dir", tmp_path / "data", "--wav-dir", f"own={recordings}")
    assert said.status == 0, said.err
    assert "own train:" in said.out
    assert "own test:" in said.out


def test_live_without_portaudio_names_the_package(
    monkeypatch: pytest.MonkeyPatch, bundle_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoPortAudio(), *sys.meta_path])
    said = umt("live", "--bundle", bundle_path)
    assert said.status == 1
    assert "libportaudio2" in said.complaint


class NoPortAudio:
    """Importing sounddevice fails as it does without its library."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")


def test_cpus_that_cannot_be_meant_are_named() -> None:
    assert "separated by commas, such as 2,3, got '1;2'" in umt("live", "--cpus", "1;2").complaint
    complaint = umt("live", "--cpus", "0, 4096").complaint
    assert "4096" in complaint
    assert "choose from" in complaint or sys.platform != "linux"


def test_threads_that_the_network_cannot_use_are_refused(tmp_path: Path) -> None:
    tiny = profile("tiny")
    config = replace(tiny, decoder=replace(tiny.decoder, residual_channels=144))
    save_bundle(random_bundle(config, ("a",)), tmp_path / "bundle")
    soundfile.write(tmp_path / "in.wav", np.zeros(100), 16000)
    files = "translate", tmp_path / "in.wav", tmp_path / "out.wav", "--to", "a"
    options = "--bundle", tmp_path / "bundle", "--threads", 2
    said = umt(*files, *options)
    assert said.status == 2
    assert "144 and 16; use one thread" in said.complaint
    said = umt(*files, *options, "--backend", "reference")
    assert said.status == 2
    assert "the reference backend has one thread" in said.complaint


def test_more_threads_than_cores_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bridge.loading, "available_cores", lambda: 1)
    assert load_backend("numba-int8", tiny_bundle, threads=2).threads == 2
    warning = "warning: 2 threads on 1 core will be slower than one thread\n"
    assert capsys.readouterr().err == warning
    monkeypatch.setattr(bridge.loading, "available_cores", lambda: 2)
    load_backend("numba-int8", tiny_bundle, threads=2)
    assert capsys.readouterr().err == ""
    load_backend("numba-int8", tiny_bundle, threads=2, cpus=[0])
    assert capsys.readouterr().err == warning


def test_compiling_says_so_and_kernels_from_the_cache_say_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bridge.console, "_WORTH_A_LINE_S", 0.0)

    @numba.njit(_nrt=False)
    def add(one: int, other: int) -> int:
        return one + other

    with compiling_shown():
        assert add(1, 2) == 3
        time.sleep(0.1)
    assert capsys.readouterr().err.startswith("compiling kernels for this processor, once")
    with compiling_shown():
        assert add(3, 4) == 7
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_live_checks_the_domain_before_any_device(bundle_path: Path) -> None:
    assert live_command.EPILOG
    said = umt("live", "--bundle", bundle_path, "--to", "nope")
    assert said.status == 2
    assert "choose one of a, b, c" in said.complaint
