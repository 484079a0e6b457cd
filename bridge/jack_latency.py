"""What a JACK server declares of its hardware's latency: the Python library leaves this out."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

_CAPTURE, _PLAYBACK = 0, 1


class _Range(ctypes.Structure):
    """jack_latency_range_t, in frames."""

    _fields_ = (("least", ctypes.c_uint32), ("most", ctypes.c_uint32))


def hardware_latency(jack: Any, input_: Any, outputs: Sequence[Any]) -> int | None:
    """Frames from hardware to a port and from ports to hardware together, as the server has it.

    jack: the Python module.  input_, outputs: ports of an open client of it.
    None unless there is hardware, or a server's stand-in for it, at both ends.
    """
    captured = _most(jack, input_, _CAPTURE)
    played = max(_most(jack, port, _PLAYBACK) for port in outputs)
    return captured + played if captured and played else None


def _most(jack: Any, port: Any, way: int) -> int:
    library = ctypes.CDLL(jack._libname)
    pointer = ctypes.c_void_p(int(jack._ffi.cast("uintptr_t", port._ptr)))
    found = _Range()
    library.jack_port_get_latency_range(pointer, way, ctypes.byref(found))
    return int(found.most)
