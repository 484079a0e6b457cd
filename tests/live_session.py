"""``umt live`` played through a private JACK server: a phrase looped into it, a switch over OSC.

The test suite plays a few seconds. A longer session, with any bundle:

    python -m tests.live_session --seconds 60 --bundle model/bundles/default
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from bridge.performance import example_path, read_performance
from tests.command_line import start_umt
from tests.jack import RATE, JackServer, Performer, end, jack_server, wait_until

Audio = NDArray[np.float32]

LOOP_S = 1.0
_FRAME = 2048


@dataclass(frozen=True)
class Session:
    """What was played, what came back, and how umt ended."""

    played: Audio
    heard: Audio
    switched_at: int
    """Frame at which the OSC message was sent."""
    settled_at: int
    """Frame by which the new domain sounds alone."""
    takes: Path
    """Folder of what umt recorded."""
    recorded_input: Audio
    recorded_output: Audio
    status: int
    said: str
    """umt's stderr."""
    xruns: int
    """As the performer's JACK client counted them."""


def play_session(
    server: JackServer, bundle: Path, domain: str, seconds: float, folder: Path, driver: str
) -> Session:
    """Play ``seconds`` through umt, switching to ``domain`` half way."""
    audio, _ = read_performance(example_path())
    phrase = audio[RATE : RATE + round(LOOP_S * RATE)]
    performer = Performer(server, phrase, seconds)
    devices = ("--in", "performer", "--out", "performer")
    options = (
        "--driver",
        driver,
        "--bundle",
        bundle,
        "--osc-port",
        0,
        "--record",
        folder / "takes",
    )
    with (folder / "umt.log").open("w+") as log:
        umt = start_umt("live", *devices, *options, env=server.environment, stdout=log, stderr=log)
        try:
            port = _osc_port(folder / "umt.log", umt)
            wait_until(lambda: performer.connected, 10, "umt to connect")
            performer.playing.set()
            half = len(performer.heard) // 2
            wait_until(lambda: performer.position >= half, seconds + 10, "half of the session")
            switched_at = performer.position
            command = ["oscsend", "127.0.0.1", port, "/umt/domain", "s", domain]
            subprocess.run(command, check=True, timeout=5)
            wait_until(lambda: performer.position == len(performer.heard), seconds + 10, "the end")
            status = end(umt)
        finally:
            end(umt)
            performer.close()
    recorded = [
        soundfile.read(folder / "takes" / f"take-001-{side}.wav", dtype="float32")[0]
        for side in ("input", "output")
    ]
    return Session(
        played=performer.played,
        heard=performer.heard,
        switched_at=switched_at,
        settled_at=switched_at + RATE // 2,
        takes=folder / "takes",
        recorded_input=recorded[0],
        recorded_output=recorded[1],
        status=status,
        said=(folder / "umt.log").read_text(),
        xruns=performer.xruns,
    )


def _osc_port(log: Path, umt: subprocess.Popen[str]) -> str:
    def port() -> str | None:
        found = re.search(r"OSC on 127\.0\.0\.1:(\d+)", log.read_text())
        return found[1] if found else None

    wait_until(lambda: port() is not None or umt.poll() is not None, 120, "umt to start")
    found = port()
    if found is None:
        pytest.fail(f"umt ended with status {umt.poll()}: {log.read_text()}")
    return found


def loops(audio: Audio, start: int, stop: int) -> list[Audio]:
    """The whole loops of the phrase between two frames, each from the phrase's beginning."""
    size = round(LOOP_S * RATE)
    first = -(-start // size)
    return [audio[n * size : (n + 1) * size] for n in range(first, stop // size)]


def timbre(audio: Audio) -> NDArray[np.float64]:
    """Mean spectrum in 60 bands of equal width on a logarithmic scale, in dB."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, _FRAME)[:: _FRAME // 2]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(_FRAME), axis=1))).mean(axis=0)
    edges = np.geomspace(4, 7000 / RATE * _FRAME, 61).astype(int)
    bands = [power[low : max(high, low + 1)].mean() for low, high in pairwise(edges)]
    return 10.0 * np.log10(np.array(bands) + 1e-9)


def distance(one: Audio, other: Audio) -> float:
    """Root mean square difference of two timbres, in dB."""
    return float(np.sqrt(np.mean((timbre(one) - timbre(other)) ** 2)))


def distances(session: Session) -> tuple[float, float]:
    """Largest distance between loops of one domain, and least between loops of both."""
    # The first loop holds the beginning from silence, which no later one does.
    before = loops(session.heard, 1, session.switched_at)
    after = loops(session.heard, session.settled_at, len(session.heard))
    within = max(distance(row[0], loop) for row in (before, after) for loop in row[1:])
    return within, min(distance(one, other) for one in before for other in after)


def main() -> None:
    """Play a session of any length and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--domain", default="1", help="switched to half way: a name")
    parser.add_argument("--driver", default="portaudio", help="or jack")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="umt-live-"))
    try:
        with jack_server(folder) as server:
            os.environ.update(server.environment)
            began = time.monotonic()
            session = play_session(
                server, options.bundle, options.domain, options.seconds, folder, options.driver
            )
    except pytest.skip.Exception as reason:
        sys.exit(f"cannot play here: {reason}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    within, between = distances(session)
    print(session.said)
    print(f"{time.monotonic() - began:.0f} s, status {session.status}, JACK xruns {session.xruns}")
    print(f"timbre: {within:.1f} dB within a domain, {between:.1f} dB across the switch")


if __name__ == "__main__":
    main()
