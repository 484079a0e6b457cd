"""Domains changed at random times by Pure Data and SuperCollider, and how the changes sound."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.jack import RATE

Audio = NDArray[np.float32]

_GLITCH_S = 0.25
"""After a message, in which its switch is looked for."""


def asked(log: Path) -> list[int]:
    """The domains that a program says it asked for."""
    return [int(index) for index in re.findall(r"asked-for: (\d)", log.read_text(errors="replace"))]


def write_pd(folder: Path, count: int) -> Path:
    """A patch that turns the example's domains at random times, and says so."""
    patch = folder / "switching.pd"
    patch.write_text(_PD.replace("COUNT", str(count)))
    return patch


def write_scd(folder: Path, count: int) -> Path:
    """A script that does the same."""
    script = folder / "switching.scd"
    script.write_text(_SCLANG.replace("COUNT", str(count)))
    return script


# A delay of 250 to 750 ms, then the next of six domains at a random distance, so that none repeats.
_PD = """#N canvas 0 0 450 400 12;
#X obj 20 20 loadbang;
#X obj 20 45 delay 1000;
#X obj 20 70 f;
#X obj 60 70 + 1;
#X obj 20 100 moses COUNT;
#X obj 20 130 t b b b;
#X obj 20 160 random 500;
#X obj 20 185 + 250;
#X obj 20 210 delay;
#X obj 120 160 random 5;
#X obj 120 185 + 1;
#X obj 120 210 +;
#X obj 120 235 mod 6;
#X obj 120 260 t f f;
#X obj 120 285 s umt-index;
#X obj 220 260 print asked-for;
#X connect 0 0 1 0;
#X connect 1 0 2 0;
#X connect 2 0 3 0;
#X connect 3 0 2 1;
#X connect 2 0 4 0;
#X connect 4 0 5 0;
#X connect 5 0 6 0;
#X connect 6 0 7 0;
#X connect 7 0 8 0;
#X connect 8 0 2 0;
#X connect 5 1 9 0;
#X connect 9 0 10 0;
#X connect 10 0 11 0;
#X connect 11 0 12 0;
#X connect 12 0 13 0;
#X connect 13 1 11 1;
#X connect 13 0 14 0;
#X connect 13 0 15 0;
"""

_SCLANG = """
(
var umt = NetAddr("127.0.0.1", "UMT_PORT".getenv.asInteger), domain = 0;
Routine {
	COUNT.do {
		domain = (domain + 1 + 5.rand) % 6;
		umt.sendMsg('/umt/domain', domain);
		"asked-for: %".format(domain).postln;
		(0.25 + 0.5.rand).wait;
	};
	{ 0.exit }.defer;
}.play;
)
"""


def longest_zero_run(audio: Audio) -> int:
    """Frames of the longest stretch of exact zeros."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], audio != 0.0, [1]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def clicks(heard: Audio, told: list[tuple[int, int]], at_random_s: float) -> dict[str, float]:
    """How sharp the sharpest bend is where a domain changes, against both domains by themselves.

    Sharpness is the second difference over the level around it: a click is sharp at any level, but
    some domains are sharper than others. 1 is the sharpest bend of either domain while each played
    alone; those stretches are scored the same way, each against the others of its domain.
    told: frames at which domains were asked for, and which; the first ones alone.
    """
    size, bends = round(_GLITCH_S * RATE), np.abs(np.diff(heard, 2))
    alone: dict[int, list[float]] = {}
    during: list[tuple[int, int, float]] = []
    before = told[0][1]
    for (at, domain), (later, _) in pairwise([*told, (len(bends), 0)]):
        if at < at_random_s * RATE:
            places = range(at + 2 * size, later - size, size)
            alone[domain] = [sharpness(heard, bends, place, size) for place in places]
        elif at + size < len(bends):
            during.append((before, domain, sharpness(heard, bends, at, size)))
        before = domain
    switches = [sharp / max(alone[old] + alone[new]) for old, new, sharp in during]
    steady = [
        sharp / max(row[:n] + row[n + 1 :]) for row in alone.values() for n, sharp in enumerate(row)
    ]
    return {
        "during_p50": float(np.median(switches)),
        "during_max": float(np.max(switches)),
        "during_above_1": float(np.mean(np.array(switches) > 1.0)),
        "steady_p50": float(np.median(steady)),
        "steady_max": float(np.max(steady)),
        "steady_above_1": float(np.mean(np.array(steady) > 1.0)),
        "steady_stretches": len(steady),
    }


def sharpness(heard: Audio, bends: Audio, place: int, size: int) -> float:
    """The sharpest bend of a stretch, over its level."""
    level = np.sqrt(np.mean(np.square(heard[place : place + size], dtype=np.float64))) + 1e-4
    return float(bends[place : place + size].max() / level)
