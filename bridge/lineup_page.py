"""The page that lineups are heard on: one HTML file with every sound in it, and its key."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile

from bridge.json_text import json_text
from bridge.outputs import shown
from evaluation.lineup import Clip, Key, Lineup
from model.config import SAMPLE_RATE
from model.errors import DataError

_TEMPLATE = Path(__file__).parent / "pages" / "lineup.html"


def page_of(lineups: Sequence[Lineup]) -> tuple[str, str]:
    """The page's text, and its name, which answers and key repeat.

    It names lineups and clips, and no domain.
    """
    body = "\n".join(_fieldset(lineup, len(lineups)) for lineup in lineups)
    name = hashlib.sha256(body.encode()).hexdigest()[:12]
    template = _TEMPLATE.read_text(encoding="utf-8")
    return template.replace("@PAGE@", name).replace("@LINEUPS@", body), name


def _fieldset(lineup: Lineup, count: int) -> str:
    clips = "\n".join(_clip(lineup.name, clip) for clip in lineup.clips)
    return (
        f'<fieldset data-lineup="{lineup.name}">\n'
        f"<legend>Lineup {lineup.name} of {count}</legend>\n{clips}\n</fieldset>"
    )


def _clip(lineup: str, clip: Clip) -> str:
    sound = io.BytesIO()
    soundfile.write(sound, clip.audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    data = base64.b64encode(sound.getvalue()).decode("ascii")
    return (
        f'<div class="clip"><audio preload="auto" src="data:audio/flac;base64,{data}"></audio>'
        f'<button type="button">Play {clip.name}</button>'
        f'<label><input type="radio" name="lineup-{lineup}" value="{clip.name}"> '
        f"{clip.name} is the original</label></div>"
    )


def key_text(key: Key) -> str:
    """A key as JSON."""
    stored = {"page": key.page, "sources": dict(key.sources)}
    players = {name: dict(clips) for name, clips in key.players.items()}
    return json_text(stored | {"players": players})


def answers_text(page: str, listener: str, answers: dict[str, str]) -> str:
    """Answers as the page gives them for download."""
    stored = {"page": page, "listener": listener, "answers": answers}
    return json_text(stored)


def read_key(path: Path) -> Key:
    """Raises DataError unless it is a key."""
    stored = _object(path)
    page, sources, players = stored.get("page"), _texts(stored.get("sources")), {}
    for lineup, clips in _mapping(stored.get("players")).items():
        players[lineup] = _texts(clips)
    whole = sources and players.keys() == sources.keys() and all(players.values())
    if not isinstance(page, str) or not whole:
        raise DataError(f"{shown(path)} is not a key; umt eval lineup writes key.json")
    return Key(page, sources, players)


def read_answers(path: Path, page: str) -> tuple[dict[str, str], str]:
    """Clips by lineup, and who listened. Raises DataError unless they answer this page."""
    stored = _object(path)
    answers, listener = _texts(stored.get("answers")), stored.get("listener", "")
    if not answers or not isinstance(listener, str):
        raise DataError(f"{shown(path)} holds no answers; download them from the lineup's page")
    if stored.get("page") != page:
        raise DataError(
            f"{shown(path)} answers page {stored.get('page')!r}, the key is of {page!r}; "
            "give the key that was written beside the page"
        )
    return answers, listener


def _object(path: Path) -> dict[str, Any]:
    try:
        return _mapping(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"cannot read {shown(path)}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{shown(path)} is not JSON: {error}") from error


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> dict[str, str]:
    """A mapping of texts; empty if it is anything else."""
    texts = _mapping(value)
    return texts if all(isinstance(one, str) for one in texts.values()) else {}
