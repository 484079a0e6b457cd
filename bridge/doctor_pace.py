"""Which networks run in real time here: a bundle and each profile, on one thread and on two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bridge.doctor import Finding, Verdict
from model.bundle import Bundle, load_bundle, random_bundle
from model.errors import ConfigError, UmtError
from realtime.backends import DEFAULT_BACKEND, Backend, open_backend, warm_up
from realtime.machine import available_cores
from realtime.pace import Pace, measure_pace

PROFILES = ("tiny", "live", "paper")
THREADS = (1, 2)
AREA = "real time"
# Of two threads on free cores, in a hop of the smallest network.
_HANDOVER_MS = 0.5
_SMALL = ("tiny", "live")
_ALONE = "end other programs, then measure again"
_BUSY = "two threads wait for one another, as other programs take their cores"


@dataclass(frozen=True, eq=False)
class Trial:
    """A network on a number of threads, ready to be timed."""

    network: str
    threads: int
    bundle: Bundle
    backend: Backend | str
    """Or why there is none."""
    needed: bool
    """Whether this is what will be played."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.network}, {self.threads} thread{'s' * (self.threads > 1)}"


def bundle_finding(path: Path | None) -> tuple[Finding, Bundle | None]:
    """Whether a bundle is whole, as its manifest's hashes tell, and the bundle if it is."""
    try:
        bundle = load_bundle(path)
    except UmtError as error:
        remedy = "choose another with --bundle, or install umt again"
        return Finding("bundle", "bundle", "fail", str(error), remedy), None
    names = ", ".join(bundle.domain_names)
    found = f"{bundle.path}: whole; profile {bundle.config.profile}; plays {names}"
    return Finding("bundle", "bundle", "ok", found), bundle


def trials(bundle: Bundle | None) -> list[Trial]:
    """Each profile with random weights, and the bundle if there is one; kernels are compiled."""
    for threads in THREADS:
        warm_up(open_backend(DEFAULT_BACKEND, random_bundle("tiny", domains=("a",)), threads))
    networks = [(f"profile {name}", random_bundle(name, domains=("a",))) for name in PROFILES]
    if bundle is not None:
        networks.append(("this bundle", bundle))
    return [
        Trial(name, threads, network, _backend(network, threads), network is bundle)
        for name, network in networks
        for threads in THREADS
    ]


def pace_findings(
    prepared: list[Trial], seconds: float, advance: Callable[[str], None]
) -> list[Finding]:
    """A row for each. seconds: of all together.  advance: told what is measured next."""
    rows: list[Finding] = []
    hindered = False
    for network in dict.fromkeys(trial.network for trial in prepared):
        paces: dict[Trial, Pace | str] = {}
        for trial in prepared:
            if trial.network == network:
                advance(trial.name)
                paces[trial] = _pace(trial, seconds / len(prepared), hindered)
        measured = {t.threads: pace for t, pace in paces.items() if isinstance(pace, Pace)}
        rows += [_finding(trial, pace, measured) for trial, pace in paces.items()]
        hindered = hindered or _hindered(measured)
    return rows


def _backend(network: Bundle, threads: int) -> Backend | str:
    if threads > available_cores():
        return f"needs {threads} cores"
    try:
        return open_backend(DEFAULT_BACKEND, network, threads)
    except ConfigError as error:
        return str(error)


def _pace(trial: Trial, seconds: float, hindered: bool) -> Pace | str:
    if isinstance(trial.backend, str):
        return trial.backend
    if hindered and trial.threads > 1:
        return _BUSY
    return measure_pace(trial.bundle, trial.backend, seconds)


def _hindered(measured: dict[int, Pace]) -> bool:
    """Whether two threads wait for one another, as they do where others want their cores.

    A large network would then take minutes to measure: two threads hand over in each of its layers.
    """
    if measured.keys() < {*THREADS}:
        return False
    one, two = (measured[threads].p50_ms for threads in THREADS)
    return two > 2.0 * one + _HANDOVER_MS


def _finding(trial: Trial, pace: Pace | str, same: dict[int, Pace]) -> Finding:
    """same: what was measured of this network, by number of threads."""
    if isinstance(pace, str):
        busy = pace == _BUSY
        remedy = "end other programs, or umt live --threads 1" if busy else ""
        verdict: Verdict = "warn" if busy else "ok"
        return Finding(AREA, trial.name, verdict, f"not measured: {pace}", remedy)
    times = f"a hop of {pace.hop_ms:g} ms takes {pace.p50_ms:.2f}, p99 {pace.p99_ms:.2f} ms"
    if pace.realtime:
        times += ", with real-time priority"
    share = f"with {100 * pace.core_share:.0f} % of a core"
    verdict = "warn"
    remedy = "a faster machine"
    if trial.bundle.config.profile not in _SMALL:
        remedy += ", or a smaller network: the profile live"
    if pace.steady:
        verdict, words, remedy = "ok", f"runs in real time {share}", ""
    elif pace.keeps_up:
        words = f"runs in real time {share}, but not steadily"
        remedy = "end other programs, then measure longer: --seconds 30"
    else:
        words = "does not run in real time"
        if trial.needed and not any(other.keeps_up for other in same.values()):
            verdict = "fail"
    better = [n for n, other in same.items() if other.steady or other.keeps_up > pace.keeps_up]
    if verdict != "ok" and better:
        remedy = f"umt live --threads {better[0]}"
    # Of two threads, one also waits for the other.
    alone = same.get(1, pace)
    if verdict != "ok" and alone.crowded:
        words += f", while other programs take {100 * (1 - alone.granted):.0f} % of a core"
        remedy = f"{_ALONE}, or {remedy}" if better else _ALONE
    return Finding(AREA, trial.name, verdict, f"{words}; {times}", remedy, asdict(pace))
