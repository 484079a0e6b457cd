"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle", metavar="DIR", help="Bundle folder.  [default: the one that comes with umt]"
    ),
]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend", metavar="NAME", help="Decoder: numba-int8, numba-float32, triton or reference."
    ),
]
ThreadsOption = Annotated[
    int,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=2,
        help="Threads that compute: 2 pays where a layer has 128 channels, as in the paper's.",
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        help="Of sampling: the same seed gives the same sound.",
    ),
]
TemperatureOption = Annotated[
    float,
    typer.Option(
        "--temperature",
        metavar="T",
        min=0.05,
        max=2.0,
        help="Of sampling, over the domain's own: lower is calmer.",
    ),
]
DataDirOption = Annotated[
    Path, typer.Option("--data-dir", metavar="DIR", help="What umt data prepare made.")
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw them here, as PNG.")
]
SegmentsOption = Annotated[
    int,
    typer.Option(
        "--segments", metavar="N", min=2, help="Segments of 5 s from each domain's test music."
    ),
]
StepsOption = Annotated[
    int, typer.Option("--steps", metavar="N", min=1, help="Training steps of each judge.")
]
JUDGE_STEPS = 600
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Files at once, each by a process of its own.  [default: 1]",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Of a Dask cluster that does the work, its workers seeing the same folders.",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option("--to", metavar="DOMAIN", help="One domain alone.  [default: each in turn]"),
]
BatchOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Segments in a batch.  [default: 4]")
]
SegmentHopsOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Hops in a segment.  [default: 40]")
]


def _teaching(text: str, default: float, metavar: str = "X", most: float | None = 1.0) -> Any:
    """One of ``training.settings.TEACHING``, a share unless said otherwise."""
    told = f"{text}  [default: {default:g}; for add-domain, the bundle's]"
    return typer.Option(metavar=metavar, min=0, max=most, help=told)


MicrophoneShareOption = Annotated[
    float | None, _teaching("Share of inputs heard through a made-up microphone.", 0.3)
]
TeacherNoiseOption = Annotated[
    float | None,
    _teaching(
        "Up to so much noise on the decoder's past, in mu-law codes.", 3, metavar="CODES", most=None
    ),
]
TeacherOffLevelOption = Annotated[
    float | None, _teaching("Share of segments whose past is 2 to 6 dB too loud or too soft.", 0.1)
]
TeacherRemnantsOption = Annotated[
    float | None,
    _teaching("Share of segments whose past has other music of the domain mixed in.", 0.2),
]
TeacherSilenceOption = Annotated[
    float | None, _teaching("Share of segments whose past begins with silence.", 0.15)
]
SaveMinutesOption = Annotated[float, typer.Option(metavar="M", min=0, help="Between checkpoints.")]
TrainThreadsOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="CPU threads.  [default: torch's]")
]
DEFAULT_BACKEND = "numba-int8"
SCORED_S = 20.0
"""Test audio of each domain that tells what int8 weights cost."""
