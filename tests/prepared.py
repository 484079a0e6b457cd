"""A user's recordings prepared as two domains, for commands that evaluate a bundle."""

from __future__ import annotations

from pathlib import Path

import soundfile

from model.bundle import Bundle, save_bundle
from model.config import SAMPLE_RATE
from tests.command_line import umt
from tests.synthetic import tones


def prepared(bundle: Bundle, folder: Path, seconds: float, takes: int) -> list[object]:
    """Save ``bundle`` below ``folder`` and prepare ``takes`` recordings of each of its domains.

    Returns the options that name both.
    """
    save_bundle(bundle, folder / "bundle")
    given: list[object] = []
    for number, name in enumerate(bundle.domain_names):
        place = folder / "recordings" / name
        place.mkdir(parents=True)
        for take in range(takes):
            sound = tones(number, seconds, take)
            soundfile.write(place / f"{take}.wav", sound, SAMPLE_RATE)
        given += ["--wav-dir", f"{name}={place}"]
    data = folder / "data"
    assert umt("data", "prepare", "--data-dir", data, *given).status == 0
    return ["--data-dir", data, "--bundle", folder / "bundle"]
