"""Fixtures every test file may use: untrained bundles, an OSC server and client, tolerances."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.osc import OscServer, OscSettings
from model.bundle import Bundle, random_bundle
from realtime.controls import Mailbox
from tests.osc_client import Sender

TOLERANCE = {"float32": 2e-3, "int8": 0.25}
"""Largest logit error against the float64 reference, by weight dtype, on untrained bundles."""


@pytest.fixture(scope="session")
def tiny_bundle() -> Bundle:
    return random_bundle("tiny", domains=("a", "b", "c"), seed=1)


@pytest.fixture(scope="session")
def live_bundle() -> Bundle:
    return random_bundle("live", domains=("a", "b"), seed=2)


@pytest.fixture(scope="session", params=["tiny", "live"])
def any_bundle(request: pytest.FixtureRequest) -> Bundle:
    bundle: Bundle = request.getfixturevalue(f"{request.param}_bundle")
    return bundle


@pytest.fixture
def mailbox(tiny_bundle: Bundle) -> Mailbox:
    return Mailbox(domains=len(tiny_bundle.domains))


@pytest.fixture
def server(tiny_bundle: Bundle, mailbox: Mailbox) -> Iterator[OscServer]:
    with OscServer(tiny_bundle, mailbox, OscSettings(port=0)) as running:
        yield running


@pytest.fixture
def sender(server: OscServer) -> Iterator[Sender]:
    sender = Sender(server)
    yield sender
    sender.socket.close()
