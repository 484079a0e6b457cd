"""Work on many files spread over processes: of this machine, or of a Dask cluster."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from typing import Any, TypeVar

from bridge.commands.extras import needs
from model.errors import UmtError

Result = TypeVar("Result")


class WorkLost(UmtError):
    """Process after process died at the same piece of work."""


START_S = 10
"""How long a scheduler may take to answer, and to have a worker."""


@contextmanager
def local_processes(count: int) -> Iterator[Executor]:
    """An executor of ``count`` processes, each with one thread; gone when the block ends.

    Work whose process dies is given to another one, and the process is replaced.
    """
    with needs("cluster"):
        from distributed import Client, LocalCluster, WorkerPlugin

    class Deaf(WorkerPlugin):
        """A terminal sends Ctrl-C to every process; it is this one that ends the others."""

        def setup(self, worker: Any) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    with (
        _plainly(),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            # Files are streamed: no worker need ever be stopped for its memory.
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            env={"NUMBA_NUM_THREADS": "1"},
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(Deaf())
        yield client.get_executor(pure=False)


@contextmanager
def cluster_at(address: str) -> Iterator[Executor]:
    """An executor of the workers of the Dask scheduler at ``address``; they stay when it goes.

    Raises UmtError if no scheduler answers, or none of its workers.
    """
    with needs("cluster"):
        from distributed import Client
    with _plainly():
        try:
            client = Client(address, timeout=START_S)
        except (OSError, ValueError) as error:
            raise UmtError(
                f"no Dask scheduler answers at {address!r}; start one with `dask scheduler` and "
                "give the address that it prints, such as tcp://host:8786"
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=START_S)
            except TimeoutError as error:
                raise UmtError(
                    f"the Dask scheduler at {address} has no workers; "
                    f"start some with `dask worker {address}`"
                ) from error
            yield client.get_executor(pure=False)


def result_of(work: Future[Result]) -> Result:
    """The result of work that has ended, or its error; WorkLost if there is none."""
    with _plainly():
        return work.result()


@contextmanager
def _plainly() -> Iterator[None]:
    """Keep Dask's own lines off the terminal, and say in one what it gave up."""
    from distributed import KilledWorker

    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except KilledWorker as error:
        raise WorkLost(
            "several processes died at the same work; is there memory enough for all of them?"
        ) from error
    except CancelledError as error:
        raise UmtError("the processes that did the work are gone; start again") from error
    finally:
        logger.setLevel(level)
