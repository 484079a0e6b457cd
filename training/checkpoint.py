"""Checkpoints: everything a run needs to go on as if it had never stopped, written atomically."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from model.config import ModelConfig
from model.errors import TrainingError
from training.settings import TrainSettings

VERSION = 4
"""Of settings and optimisers' state. Weights of earlier versions can still begin another run."""
_DROPPED = ("teacher_gain", "teacher_swell")
"""Settings that earlier versions had."""
_NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, settings: TrainSettings, state: Mapping[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, and containers of them) into ``folder``.

    Raises TrainingError if it cannot be written; the checkpoint before it stays.
    """
    temporary = folder / f".{_NAME}.part"
    try:
        with temporary.open("wb") as file:
            torch.save({"version": VERSION, "settings": asdict(settings), **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / _NAME)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        # torch hides what the system said behind an error of its own.
        refusal = error if isinstance(error, OSError) else error.__context__
        reason = refusal.strerror if isinstance(refusal, OSError) else error
        again = "go on from the last one" if has_checkpoint(folder) else "start again"
        raise TrainingError(
            f"{folder / _NAME} cannot be written ({reason}); free space and {again}"
        ) from error


def has_checkpoint(folder: Path) -> bool:
    """Whether a run was saved in ``folder``."""
    return (folder / _NAME).exists()


def load_checkpoint(folder: Path) -> tuple[TrainSettings, dict[str, Any]]:
    """Settings and state of the run saved in ``folder``. Raises TrainingError if unreadable."""
    path = folder / _NAME
    try:
        # weights_only refuses anything but plain data: a checkpoint cannot run code.
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["version"] not in range(1, VERSION + 1):
            raise TrainingError(
                f"{path} has version {state['version']}, this program reads {VERSION}"
            )
        fields = {k: v for k, v in state.pop("settings").items() if k not in _DROPPED}
        fields["config"] = ModelConfig.from_dict(fields["config"])
        return TrainSettings(**fields), state
    except FileNotFoundError:
        raise TrainingError(f"no checkpoint in {folder}; start one with umt train") from None
    except TrainingError:
        raise
    except Exception as error:
        raise TrainingError(f"{path} is damaged: {type(error).__name__}: {error}") from error
