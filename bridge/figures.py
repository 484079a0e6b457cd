"""Pictures need matplotlib; what is missing is said in one line."""

from __future__ import annotations

from typing import Any

from model.errors import UmtError


def require_pyplot() -> Any:
    """matplotlib's pyplot, drawing to files. Raises UmtError if matplotlib is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise UmtError(
            "the plot needs matplotlib, which is not installed; pip install matplotlib"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
