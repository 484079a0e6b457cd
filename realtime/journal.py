"""What a replay needs beside the input: who changed what at which frame, and what went wrong.

A run is determined by bundle, backend, seed, input, and the rows of this journal: controls and the
input frame at which the engine first heeded them, input dropped in an overload, the hop at which a
second voice came in, output that was not ready when it was played.
"""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

_GAPS = 4096
"""Blocks with missing frames between two readings, which are a fraction of a second apart."""

Row = dict[str, Any]
"""JSON-ready, with a ``what``."""


class Journal:
    """Rows from the engine's thread and from the callback, read by a third thread."""

    def __init__(self) -> None:
        self._rows: SimpleQueue[Row] = SimpleQueue()
        self._gaps = np.zeros((_GAPS, 2), np.int64)
        self._gaps_written = 0
        self._gaps_read = 0

    def note(self, what: str, **facts: Any) -> None:
        """Add a row. Any thread but the callback's."""
        self._rows.put({"what": what, **facts})

    def note_gap(self, frame: int, missing: int) -> None:
        """``missing`` output frames from ``frame`` on were not ready. Callback side."""
        gap = self._gaps[self._gaps_written % _GAPS]
        gap[0] = frame
        gap[1] = missing
        self._gaps_written += 1

    def rows(self) -> Iterator[Row]:
        """What was added since the last time; one reader.

        A row ``lost`` says that not all was read in time: there can be no replay then.
        """
        while True:
            try:
                yield self._rows.get_nowait()
            except Empty:
                break
        overwritten = self._gaps_written - _GAPS - self._gaps_read
        if overwritten > 0:
            self._gaps_read += overwritten
            yield {"what": "lost", "gaps": overwritten}
        while self._gaps_read < self._gaps_written:
            frame, missing = self._gaps[self._gaps_read % _GAPS].tolist()
            self._gaps_read += 1
            yield {"what": "gap", "frame": frame, "missing": missing}
