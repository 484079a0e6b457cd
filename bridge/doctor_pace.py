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


@dataclass(frozen=True)
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
    """The bundle, if there is one, and each profile with random weights; kernels are compiled."""
    networks = [(f"profile {name}", random_bundle(name, domains=("a",))) for name in PROFILES]
    if bundle is not None:
        networks.insert(0, ("this bundle", bundle))
    return [
        Trial(name, threads, network, _backend(network, threads), network is bundle)
        for name, network in networks
        for threads in THREADS
    ]


def pace_findings(
    prepared: list[Trial], seconds: float, advance: Callable[[str], None]
) -> list[Finding]:
    """A row for each. seconds: of all together.  advance: told what is measured next."""
    paces: list[Pace | None] = []
    for trial in prepared:
        advance(trial.name)
        paces.append(
            None
            if isinstance(trial.backend, str)
            else measure_pace(trial.bundle, trial.backend, seconds / len(prepared))
        )
    rows = []
    for trial, pace in zip(prepared, paces, strict=True):
        same = {
            other.threads: its
            for other, its in zip(prepared, paces, strict=True)
            if other.bundle is trial.bundle and its is not None
        }
        rows.append(_finding(trial, pace, same))
    return rows


def _backend(network: Bundle, threads: int) -> Backend | str:
    if threads > available_cores():
        return f"needs {threads} cores"
    try:
        backend = open_backend(DEFAULT_BACKEND, network, threads)
    except ConfigError as error:
        return str(error)
    warm_up(backend)
    return backend


def _finding(trial: Trial, pace: Pace | None, same: dict[int, Pace]) -> Finding:
    """same: of this network, by number of threads."""
    if pace is None:
        return Finding(AREA, trial.name, "ok", f"not measured: {trial.backend}")
    times = f"a hop of {pace.hop_ms:g} ms takes {pace.p50_ms:.2f}, p99 {pace.p99_ms:.2f} ms"
    share = f"with {100 * pace.core_share:.0f} % of a core"
    verdict: Verdict = "warn"
    remedy = "a faster machine, or a smaller network: the profile live"
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
    return Finding(AREA, trial.name, verdict, f"{words}; {times}", remedy, asdict(pace))
