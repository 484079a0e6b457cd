"""What teaches for the stage is on by default, and help says by how much."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from bridge.commands import options
from training.settings import TEACHING, TrainSettings


@pytest.mark.parametrize("name", TEACHING)
def test_help_tells_the_default(name: str) -> None:
    alias = "".join(map(str.capitalize, name.split("_"))) + "Option"
    (option,) = getattr(options, alias).__metadata__
    default = getattr(TrainSettings(), name)
    assert default > 0
    assert f"[default: {default:g}; " in option.help
