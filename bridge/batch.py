"""Translating many files at once: each by one process, of this machine or of a Dask cluster.

A task is a source, a target and the settings of the whole batch, and its result depends on nothing
else: whichever process does it, and however often, the same sound comes out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from pathlib import Path

from bridge.cluster import WorkLost, result_of
from bridge.files import Translated, translate_file
from bridge.outputs import discard_part, shown
from model.bundle import load_bundle
from model.errors import AudioFileError, BundleError, UmtError
from realtime.backends import open_backend
from realtime.chain import Chain
from realtime.controls import Controls

Pair = tuple[Path, Path]
"""Source and target."""


@dataclass(frozen=True)
class Batch:
    """What all files of a batch share.

    bundle: None is the one that comes with umt. fingerprint: that it must have on every machine.
    """

    bundle: Path | None
    fingerprint: str | None
    backend: str
    controls: Controls
    seed: int


def translate_one(batch: Batch, source: Path, target: Path) -> Translated:
    """Translate one file of a batch, in any process; errors are those of ``translate_file``."""
    return translate_file(source, target, _chain_of(batch), batch.seed, lambda done, total: None)


def translate_pairs(
    batch: Batch, pairs: Sequence[Pair], pool: Executor
) -> Iterator[tuple[Pair, Translated | UmtError]]:
    """Translate all pairs; yields each, as it is finished, with what came of it.

    Raises at once what would go wrong with every file.
    """
    pending: dict[Future[Translated], Pair] = {
        pool.submit(translate_one, batch, *pair): pair for pair in pairs
    }
    try:
        for future in as_completed(pending):
            outcome: Translated | UmtError
            try:
                outcome = result_of(future)
            except AudioFileError as error:
                outcome = error
            except WorkLost as error:
                source, _ = pending[future]
                outcome = AudioFileError(f"cannot translate {shown(source)}: {error}")
            yield pending[future], outcome
    finally:
        for future in pending:
            future.cancel()


def discard_parts(pairs: Sequence[Pair]) -> None:
    """Remove what processes that were killed have left unfinished."""
    for _, target in pairs:
        discard_part(target)


class _Chains(threading.local):
    """The chain that a thread has opened last: files of one batch share it."""

    batch: Batch | None = None
    chain: Chain | None = None


_opened = _Chains()


def _chain_of(batch: Batch) -> Chain:
    if _opened.batch != batch or _opened.chain is None:
        bundle = load_bundle(batch.bundle)
        if bundle.fingerprint != batch.fingerprint:
            assert bundle.path is not None
            raise BundleError(
                f"a worker has another bundle in {shown(bundle.path)}; copy yours to it, or give "
                "one that all machines see with --bundle"
            )
        _opened.chain = Chain(bundle, open_backend(batch.backend, bundle), controls=batch.controls)
        _opened.batch = batch
    return _opened.chain
