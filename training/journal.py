"""The record of a run: one JSON object a line, and a plot of the losses made from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.errors import TrainingError
from training.writing import writing

_LOG = "log.jsonl"
_PLOT = "loss.png"
_REMEDY = "free space and go on from the last checkpoint"


class Journal:
    """Appends to ``log.jsonl`` and redraws ``loss.png`` in the run's folder."""

    def __init__(self, folder: Path, from_step: int) -> None:
        self.folder = folder
        self._forget_after(from_step)

    def write(self, **row: Any) -> None:
        """Append one row; numbers are kept to five figures."""
        rounded = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()}
        path = self.folder / _LOG
        with writing(path, TrainingError, _REMEDY), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rounded) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """Every whole row, oldest first; a line cut short by a kill is left out."""
        rows = []
        try:
            lines = (self.folder / _LOG).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows

    def plot(self) -> Path:
        """Draw training and held-out losses and the confusion network's accuracy over steps."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        rows = self.rows()
        figure, (losses, guesses) = pyplot.subplots(
            2, 1, figsize=(9, 7), sharex=True, height_ratios=(3, 1), layout="constrained"
        )
        domains = sorted(
            {name for row in rows for name in [row.get("domain"), *row.get("held_out", ())] if name}
        )
        for colour, domain in enumerate(domains):
            train = [r for r in rows if r.get("domain") == domain and "loss" in r]
            losses.plot(
                [r["step"] for r in train],
                [r["loss"] for r in train],
                f"C{colour}",
                alpha=0.35,
                lw=1,
            )
            held_out = [r for r in rows if domain in r.get("held_out", {})]
            losses.plot(
                [r["step"] for r in held_out],
                [r["held_out"][domain] for r in held_out],
                f"C{colour}o-",
                ms=3,
                label=f"{domain}, held out",
            )
        losses.set(ylabel="nats per sample", title="Reconstruction (faint: training)")
        losses.grid(alpha=0.3)
        if domains:
            losses.legend()
        if len(domains) > 1:
            guesses.axhline(1 / len(domains), color="k", ls=":", lw=1, label="chance")
            guesses.legend(loc="lower right")
        # Steps of a finished encoder confuse nobody.
        guessed = [r for r in rows if r.get("confusion_loss")]
        guesses.plot([r["step"] for r in guessed], [r["confusion_accuracy"] for r in guessed], "C7")
        guesses.set(ylabel="domain guessed", xlabel="step", ylim=(0, 1.02))
        guesses.grid(alpha=0.3)
        path = self.folder / _PLOT
        temporary = path.with_name(f".{path.name}.part")
        with writing(path, TrainingError, _REMEDY):
            figure.savefig(temporary, dpi=110, format="png")
            temporary.replace(path)
        pyplot.close(figure)
        return path

    def _forget_after(self, step: int) -> None:
        """Drop rows that a run resumed at ``step`` will write again."""
        kept = [row for row in self.rows() if row.get("step", 0) <= step]
        temporary = self.folder / f".{_LOG}.part"
        text = "".join(json.dumps(row) + "\n" for row in kept)
        with writing(self.folder / _LOG, TrainingError, _REMEDY):
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.folder / _LOG)
