"""Which commit is running."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
# What a run writes there does not make the next one another program.
_NOT_RESULTS = (":/", ":(exclude,top)benchmarks/results")


@cache
def current_commit() -> str:
    """The commit, ending in -dirty if a tracked file but results differs; looked up once.

    'unknown' where these files are not part of a git checkout.
    """
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *_NOT_RESULTS)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=_HERE, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
