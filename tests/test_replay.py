"""A session played again from its journal is the session, bit for bit."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from model.errors import ConfigError
from realtime.backends import Backend, open_backend
from realtime.chain import Chain
from realtime.controls import Controls, Mailbox
from realtime.engine import Engine
from realtime.filling import LATE
from realtime.journal import Journal, Row
from realtime.replay import Session, replayed

Audio = NDArray[np.float32]
RATE, BLOCK = 48_000, 256


@pytest.fixture(scope="module")
def backend(tiny_bundle: Bundle) -> Backend:
    return open_backend("numba-int8", tiny_bundle)


class Take:
    """Blocks exchanged with an engine, and its journal."""

    def __init__(self, bundle: Bundle, backend: Backend, blocks: int, **options: Any) -> None:
        self.mailbox = Mailbox(domains=len(bundle.domains))
        self.journal = Journal()
        self.engine = Engine(bundle, backend, RATE, BLOCK, mailbox=self.mailbox, **options)
        self.engine.journal = self.journal
        rng = np.random.default_rng(4)
        self.heard = rng.normal(0, 0.2, blocks * BLOCK).astype(np.float32)
        self.played = np.empty_like(self.heard)
        self.at = 0

    def exchange(self) -> None:
        part = slice(self.at, self.at + BLOCK)
        self.engine.exchange(self.heard[part], self.played[part])
        self.at += BLOCK

    @property
    def rows(self) -> list[Row]:
        """As a file would have them."""
        return json.loads(json.dumps(list(self.journal.rows())))


@pytest.mark.parametrize("late", LATE)
def test_a_live_session_with_everything_in_it(
    tiny_bundle: Bundle, backend: Backend, late: str
) -> None:
    """With helper threads, changes of domain, a blend, a panic, gaps and an overload."""
    blocks = 500
    take = Take(tiny_bundle, backend, blocks, seed=7, late=late)
    changes: dict[int, Any] = {
        20: lambda: take.mailbox.replace(domain=1, temperature=0.7),
        90: lambda: take.mailbox.replace(blend_domain=2, blend=0.4, latent_noise=0.2),
        150: lambda: take.mailbox.replace(domain=2, mix=0.5),
        200: lambda: take.mailbox.replace(panic=True),
        230: lambda: take.mailbox.replace(seed=99, gain_out=-3.0),
        300: lambda: take.mailbox.replace(domain=0, blend=0.0),
    }
    with take.engine as engine:
        for block in range(blocks):
            changes.get(block, lambda: None)()
            take.exchange()
            # As fast as the engine goes, but for one stretch that it cannot keep up with.
            while block not in range(360, 420) and engine._captured.backlog > BLOCK:
                time.sleep(0.0002)
    rows = take.rows
    kinds = [row["what"] for row in rows]
    assert kinds.count("controls") == 1 + len(changes)
    assert kinds.count("join") >= 3
    assert kinds.count("skip") >= 1
    assert kinds.count("gap") >= 1
    session = Session.of(rows)
    again = replayed(tiny_bundle, backend, session, take.heard)
    np.testing.assert_array_equal(again.view(np.uint32), take.played.view(np.uint32))
    # Nothing in the journal is there for nothing.
    last = max(session.joins)
    for other in (
        replace(session, seed=8),
        replace(session, gaps=[gap for gap in session.gaps if gap[1] < BLOCK]),
        replace(session, changes=session.changes[:-1]),
        replace(session, joins={hop: how for hop, how in session.joins.items() if hop != last}),
    ):
        assert (replayed(tiny_bundle, backend, other, take.heard) != take.played).any()


@pytest.mark.parametrize("run", range(4))
def test_whatever_is_turned_and_whenever_can_be_played_again(
    tiny_bundle: Bundle, backend: Backend, run: int
) -> None:
    """Switches during switches, panic in a crossfade, blends that come and go with them, ..."""
    blocks, rng = 400, np.random.default_rng(run)
    take = Take(tiny_bundle, backend, blocks, seed=run, late=LATE[run % len(LATE)])
    turns: dict[str, Any] = {
        "domain": lambda: int(rng.integers(3)),
        "blend_domain": lambda: int(rng.integers(3)),
        "blend": lambda: float(rng.choice([0.0, 0.3, 1.0])),
        "mix": lambda: float(rng.choice([0.0, 0.5, 1.0])),
        "bypass": lambda: bool(rng.integers(2)),
        "freeze": lambda: bool(rng.integers(2)),
        "latent_smooth": lambda: float(rng.choice([0.0, 0.2])),
        "latent_noise": lambda: float(rng.choice([0.0, 0.5])),
        "seed": lambda: int(rng.integers(2**62)),
        "temperature": lambda: float(rng.uniform(0.05, 2.0)),
        "gain_in": lambda: float(rng.uniform(-60.0, 24.0)),
    }
    with take.engine as engine:
        for block in range(blocks):
            for _ in range(rng.poisson(0.3)):
                if rng.random() < 0.1:
                    take.mailbox.replace(panic=True)
                    continue
                names = rng.choice(list(turns), rng.integers(1, 4), replace=False)
                take.mailbox.replace(**{name: turns[name]() for name in names})
            take.exchange()
            while block % 60 < 55 and engine._captured.backlog > BLOCK:
                time.sleep(0.0002)
        assert engine.failure is None
    assert np.abs(take.played).max() <= 1.0
    again = replayed(tiny_bundle, backend, Session.of(take.rows), take.heard)
    np.testing.assert_array_equal(again.view(np.uint32), take.played.view(np.uint32))


@pytest.mark.parametrize("late", LATE)
def test_a_journal_that_goes_on_after_the_sound_is_played_as_far_as_that(
    tiny_bundle: Bundle, backend: Backend, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """As a program leaves it that was killed between writing the one and the other."""
    take = Take(tiny_bundle, backend, blocks=100, seed=3, late=late)
    with take.engine as engine:
        for block in range(100):
            if block % 20 == 10:
                take.mailbox.replace(domain=block % 3, mix=block / 100)
            take.exchange()
            while engine._captured.backlog > BLOCK:
                time.sleep(0.0002)
    kept = 55 * BLOCK
    process = Chain.process

    def fed(chain: Chain, block: Audio, *controls: Controls) -> Audio:
        assert len(block), "it would play nothing, for ever"
        return process(chain, block, *controls)

    monkeypatch.setattr(Chain, "process", fed)
    session = Session.of(take.rows)
    assert max(frame for frame, _ in session.changes) > kept
    beyond = replace(session, gaps=[*session.gaps, (kept, 10), (80 * BLOCK, 10)])
    again = replayed(tiny_bundle, backend, beyond, take.heard[:kept])
    np.testing.assert_array_equal(again.view(np.uint32), take.played[:kept].view(np.uint32))
    before = [gap for gap in session.gaps if sum(gap) < kept - 200]
    across = replace(session, gaps=[*before, (kept - 200, 500)])
    again = replayed(tiny_bundle, backend, across, take.heard[:kept])
    assert (again[: kept - 200] == take.played[: kept - 200]).all()
    assert (again[kept - 200 :] != take.played[kept - 200 : kept]).any()


def test_a_journal_that_does_not_begin_with_its_session_is_refused() -> None:
    with pytest.raises(ConfigError, match="not tell a session from its start"):
        Session.of([{"what": "gap", "frame": 0, "missing": 3}])
    with pytest.raises(ConfigError, match="not tell a session from its start: KeyError"):
        Session.of([{"what": "begin", "frame": 0}])
