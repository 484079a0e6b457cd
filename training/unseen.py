"""Instruments that no domain has, to try the encoder on: they play the test works of the others."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from training import render
from training.catalogue import Instrument
from training.sampled import play_recording
from training.sources import GLASS_RECORDING, OTHER_SOUNDFONT, find_sounds
from training.sung import sing
from training.takes import Players

FAMILIAR = {
    "guitar": (Instrument("guitar", 24, 40, 83),),
    "brass": (
        Instrument("trumpet", 56, 52, 87, suits_from=65),
        Instrument("horn", 60, 41, 77, suits_from=57),
        Instrument("trombone", 57, 34, 72),
    ),
    "accordion": (Instrument("accordion", 21, 36, 96),),
    "whistle": (Instrument("whistle", 78, 60, 96),),
}
"""They sound from the SoundFonts that the domains were rendered with."""

FOREIGN = {
    "saxophone": (
        Instrument("soprano saxophone", 64, 56, 88, suits_from=69),
        Instrument("alto saxophone", 65, 49, 81, suits_from=60),
        Instrument("tenor saxophone", 66, 44, 76, suits_from=54),
        Instrument("baritone saxophone", 67, 36, 69),
    ),
    "harp": (Instrument("harp", 46, 24, 103),),
    "oohs": (Instrument("voices", 53, 41, 84),),
    "glass": (Instrument("rubbed glass", 92, 60, 96),),
    "singer": (Instrument("singer", 85, 40, 81),),
}
"""They sound from another maker's SoundFont, but for the last two: a recording, and sung vowels."""

UNSEEN = FAMILIAR | FOREIGN

GLASS_PITCH = 77.99
"""MIDI pitch of the recording."""


def unseen_players(packages: Path) -> dict[str, Players]:
    """All of them, ready to play.

    packages: where what is not installed is kept. Raises DataError, naming the package, for sounds
    that cannot be had.
    """
    other = partial(render.synthesise, soundfont=find_sounds(OTHER_SOUNDFONT, packages))
    glass = find_sounds(GLASS_RECORDING, packages)
    sounds: dict[str, render.Synthesise] = dict.fromkeys(FOREIGN, other)
    sounds["glass"] = lambda played, voices, *, room: play_recording(played, glass, GLASS_PITCH)
    sounds["singer"] = lambda played, voices, *, room: sing(played)
    return {name: Players(given, sounds.get(name)) for name, given in UNSEEN.items()}
