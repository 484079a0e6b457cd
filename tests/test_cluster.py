"""Many files over several processes: nothing lost, nothing different, whoever dies."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

distributed = pytest.importorskip("distributed", reason='needs pip install "umt-live[cluster]"')

import dask  # noqa: E402
import psutil  # noqa: E402

import bridge.cluster  # noqa: E402
from bridge.batch import Batch, translate_one  # noqa: E402
from bridge.cluster import WorkLost, cluster_at, local_processes, result_of  # noqa: E402
from model.bundle import Bundle, load_bundle, save_bundle  # noqa: E402
from model.errors import BundleError, UmtError  # noqa: E402
from realtime.controls import Controls  # noqa: E402
from tests.command_line import start_umt, umt  # noqa: E402

pytestmark = pytest.mark.alone

FILES = 6


@pytest.fixture(scope="module")
def bundle_path(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle")
    save_bundle(tiny_bundle, path)
    return path


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A real cluster of two worker processes, such as a user starts by hand."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as started:
        yield started


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as connected:
        yield connected


def takes(folder: Path, seconds: float) -> Path:
    (folder / "deep").mkdir(parents=True)
    for take in range(FILES):
        rng = np.random.default_rng(take)
        audio = rng.normal(0, 0.1, int(seconds * 22_050)).astype(np.float32)
        soundfile.write(folder / ("deep" if take % 2 else "") / f"{take}.wav", audio, 22_050)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def wait_until(condition: Any, process: Any = None, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_processes_change_nothing_of_the_sound(tmp_path: Path, bundle_path: Path) -> None:
    source = takes(tmp_path / "in", 1)
    (source / "bad.wav").write_text("not sound")
    how = ("--to", "b", "--bundle", bundle_path, "--seed", "3", "--temperature", "0.8")
    alone = umt("translate", source, tmp_path / "one", *how)
    both = umt("translate", source, tmp_path / "two", *how, "--workers", "2")
    assert alone.status == both.status == 1
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert len(contents(tmp_path / "two")) == FILES
    assert "bad.wav: it is not sound in a format known here" in both.err
    assert both.err.splitlines()[-1] == f"umt: 1 of {FILES + 1} files could not be translated"
    assert len(both.out.splitlines()) == FILES


def test_a_worker_that_is_killed_loses_no_file(
    tmp_path: Path, bundle_path: Path, cluster: Any, client: Any
) -> None:
    source, out = takes(tmp_path / "in", 10), tmp_path / "two"
    how = ("--to", "c", "--bundle", bundle_path)
    workers = [psutil.Process(pid) for pid in client.run(os.getpid).values()]

    def writing() -> list[Any]:
        return [one for one in workers if any(".part" in file.path for file in one.open_files())]

    process = start_umt("translate", source, out, *how, "--scheduler", cluster.scheduler_address)
    wait_until(writing, process)
    killed = writing()[0]
    killed.kill()
    said, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert sorted(line.split(": ")[0] for line in said.splitlines()) == sorted(
        str(out / name) for name in contents(source)
    )
    assert umt("translate", source, tmp_path / "one", *how).status == 0
    assert contents(out) == contents(tmp_path / "one")
    assert err == ""
    assert killed.pid not in client.run(os.getpid).values()


def slow_writing() -> None:
    """In a worker: take long enough for it to be killed in the middle."""
    from training import prepare

    honest = prepare.os.replace

    def replace(part: Path, path: Path) -> None:
        whole = part.read_bytes()
        part.write_bytes(whole[: len(whole) // 2])
        time.sleep(0.4)
        part.write_bytes(whole)
        honest(part, path)

    prepare.os.replace = replace


def test_data_is_prepared_whole_though_a_worker_is_killed(
    tmp_path: Path, cluster: Any, client: Any
) -> None:
    pytest.importorskip("torch")
    from training.prepare import prepare
    from training.progress import Step

    source = takes(tmp_path / "in", 2)
    client.wait_for_workers(2)
    pids = list(client.run(os.getpid).values())
    client.run(slow_writing)

    def kill_one(step: Step) -> None:
        if step.stage == "render" and step.done == 1:
            os.kill(pids[0], signal.SIGKILL)

    with cluster_at(cluster.scheduler_address) as pool:
        summary = prepare(tmp_path / "two", None, {"mine": source}, 3, kill_one, pool=pool)
    assert summary.made == FILES
    prepare(tmp_path / "one", None, {"mine": source}, 3, lambda step: None)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_data_prepared_by_processes_is_the_same(tmp_path: Path) -> None:
    source = takes(tmp_path / "in", 2)
    for folder, workers in (("one", 1), ("two", 2)):
        how = ("--data-dir", tmp_path / folder, "--wav-dir", f"mine={source}")
        said = umt("data", "prepare", *how, "--workers", workers)
        assert said.status == 0, said.err
        assert f"{FILES} files made" in said.out
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_an_interruption_leaves_no_half_files(tmp_path: Path, bundle_path: Path) -> None:
    source, out = takes(tmp_path / "in", 30), tmp_path / "out"
    how = ("--to", "a", "--bundle", bundle_path, "--workers", "2")
    process = start_umt("translate", source, out, *how, start_new_session=True)
    wait_until(lambda: list(out.rglob(".*.part")), process)
    # A terminal's Ctrl-C reaches the workers too.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines() == ["umt: interrupted"]
    assert all(len(audio) > 1000 for audio in contents(out).values())
    assert not list(out.rglob(".*"))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_that_kills_every_process_is_given_up() -> None:
    once = {"distributed.scheduler.allowed-failures": 0}
    with (
        dask.config.set(once),
        local_processes(1) as pool,
        pytest.raises(WorkLost, match="several processes died"),
    ):
        result_of(pool.submit(die))


def test_a_worker_with_another_bundle_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    right = load_bundle(bundle_path).fingerprint
    batch = Batch(bundle_path, right, "numba-int8", Controls(), 0)
    soundfile.write(tmp_path / "in.wav", np.zeros(800), 16_000)
    done = translate_one(batch, tmp_path / "in.wav", tmp_path / "out.wav")
    assert done.seconds == pytest.approx(0.05)
    other = replace(batch, fingerprint="0" * 64)
    with pytest.raises(BundleError, match="a worker has another bundle in "):
        translate_one(other, tmp_path / "in.wav", tmp_path / "out.wav")


@pytest.mark.parametrize("command", ["translate", "data"])
@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        (("--workers", "2", "--scheduler", "tcp://127.0.0.1:1"), 2, "leave it out with --sched"),
        (("--workers", "0"), 2, "--workers"),
        (("--scheduler", "tcp://127.0.0.1:1"), 1, "no Dask scheduler answers at 'tcp://127.0.0"),
        (("--scheduler", "over there"), 1, "no Dask scheduler answers at 'over there'"),
    ],
)
def test_a_cluster_that_cannot_be_is_one_line(
    tmp_path: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch, command: str,
    options: tuple[str, ...], status: int, reason: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(bridge.cluster, "START_S", 1)
    source = takes(tmp_path / "in", 2)
    words: dict[str, tuple[object, ...]] = {
        "translate": (source, tmp_path / "out", "--to", "a", "--bundle", bundle_path),
        "data": ("prepare", "--data-dir", tmp_path / "out", "--wav-dir", f"mine={source}"),
    }
    said = umt(command, *words[command], *options)
    assert said.status == status
    assert reason in said.complaint
    assert not list(tmp_path.rglob("*.part"))


def test_two_threads_are_for_one_file_at_a_time(tmp_path: Path, bundle_path: Path) -> None:
    source = takes(tmp_path / "in", 1)
    how = ("--to", "a", "--bundle", bundle_path, "--threads", "2", "--workers", "2")
    said = umt("translate", source, tmp_path / "out", *how)
    assert said.status == 2
    assert "--threads 2 is for one file at a time" in said.complaint


def test_a_scheduler_without_workers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.cluster, "START_S", 1)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as empty,
        pytest.raises(UmtError, match="has no workers; start some with `dask work"),
        cluster_at(empty.scheduler_address),
    ):
        pass


def test_without_dask_the_extra_is_named(
    tmp_path: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    source = takes(tmp_path / "in", 1)
    how = ("--to", "a", "--bundle", bundle_path, "--workers", "2")
    said = umt("translate", source, tmp_path / "out", *how)
    assert said.status == 1
    assert 'pip install "umt-live[cluster]"' in said.complaint
