"""JSON that commands write, for programs that know of no NaN."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bridge.json_text import json_text


def refuse(constant: str) -> Any:
    pytest.fail(f"{constant} is no JSON")


def test_what_is_no_number_is_null_wherever_it_is() -> None:
    nan, inf = float("nan"), float("inf")
    written = json_text([{"a": nan, "b": (1.5, -inf)}, np.float64("nan"), {"c": {"d": [nan, 0]}}])
    read = json.loads(written, parse_constant=refuse)
    assert read == [{"a": None, "b": [1.5, None]}, None, {"c": {"d": [None, 0]}}]
    assert written.endswith("]\n")
