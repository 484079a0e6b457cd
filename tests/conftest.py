"""Fixtures every test file may use: untrained bundles of each profile, and the tolerances."""

from __future__ import annotations

import pytest

from model.bundle import Bundle, random_bundle

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
