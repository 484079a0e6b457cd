"""``umt`` with a fault to switch on: SIGUSR1 makes its decoders five times slower for 3 s.

On a machine where five times slower is still fast enough, they take two hops' time for a hop.
"""

from __future__ import annotations

import signal
import time
from typing import Any

from bridge import cli
from realtime.decoder import NumbaDecoder

FACTOR, HOPS, SECONDS = 5.0, 2.0, 3.0

_slow_until = 0.0


def main() -> int:
    """Run a command, like ``bridge.cli.main``."""
    generate = NumbaDecoder.generate

    def slow(decoder: NumbaDecoder, *given: Any) -> Any:
        began = time.monotonic()
        codes = generate(decoder, *given)
        if began < _slow_until:
            took = time.monotonic() - began
            time.sleep(max(FACTOR * took, HOPS * decoder.config.hop_s) - took)
        return codes

    NumbaDecoder.generate = slow  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, _begin)
    return cli.main()


def _begin(*_: object) -> None:
    global _slow_until
    _slow_until = time.monotonic() + SECONDS
