"""``umt data prepare``: musical domains as 16 kHz sound files.

They come from scores and a SoundFont, or from a user's recordings. A run that was stopped goes on
where it was: a file is made again only if it is missing, changed, or asked for differently. The
same seed, packages and fluidsynth give the same files.
"""

import io
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile

from model.bundle import Domain
from model.errors import DataError, UnknownDomain
from training import sources
from training.catalogue import RECIPES, Recipe
from training.jobs import OWN_LICENCE, Job, Library, domain_licence, recording_jobs, render_jobs
from training.manifest import (
    SPLITS,
    WRITING_REMEDY,
    FileRow,
    Journal,
    Manifest,
    manifest_path,
    read_manifest,
    write_manifest,
)
from training.progress import Report, Step
from training.render import LOUDNESS_DB, SAMPLE_RATE, synthesiser_version
from training.writing import writing

__all__ = ["DEFAULT_SEED", "PrepareSummary", "Report", "Step", "prepare"]

DEFAULT_SEED = 2019


@dataclass(frozen=True)
class PrepareSummary:
    """What the data folder holds after a run.

    ``minutes`` of sound by (domain, split), over all domains; ``made`` and ``kept`` count the files
    of this run.
    """

    manifest: Path
    minutes: Mapping[tuple[str, str], float]
    made: int
    kept: int
    warnings: tuple[str, ...]
    elapsed_s: float


def prepare(
    data_dir: Path,
    domains: Sequence[str] | None,
    wav_dirs: Mapping[str, Path],
    seed: int,
    report: Report,
    workers: int = 2,
    pool: Executor | None = None,
) -> PrepareSummary:
    """Make or complete the given domains below ``data_dir`` and write their manifest.

    domains: names of built-in domains; None means all of them, or none if there are ``wav_dirs``.
    wav_dirs: a folder of recordings for each further domain; those need no packages. Domains
    prepared earlier and not named now stay as they are.
    workers: files made at once, by threads. pool: makes them instead; its workers see the same
    folders.
    Raises UnknownDomain, and DataError if a source cannot be had or a folder holds nothing usable.
    """
    started = time.monotonic()
    recipes = _chosen(domains, wav_dirs)
    path = manifest_path(data_dir)
    before = read_manifest(path) if path.exists() else Manifest()
    rows, jobs, warnings = _plan(recipes, wav_dirs, data_dir, seed, report)
    work = _Work(path.parent, before, seed, report)
    with ThreadPoolExecutor(workers) if pool is None else nullcontext(pool) as executor:
        files = work.run(jobs, executor)
    after = before.replaced(rows, files)
    write_manifest(path, after)
    work.sweep(after, [row.name for row in rows])
    return PrepareSummary(
        manifest=path,
        minutes=_minutes(after),
        made=work.made,
        kept=len(files) - work.made,
        warnings=tuple(warnings),
        elapsed_s=time.monotonic() - started,
    )


def _chosen(domains: Sequence[str] | None, wav_dirs: Mapping[str, Path]) -> list[Recipe]:
    if domains is None:
        domains = [] if wav_dirs else list(RECIPES)
    for name in domains:
        if name not in RECIPES:
            known = ", ".join(RECIPES)
            raise UnknownDomain(
                f"there is no built-in domain {name!r} (there are {known}); "
                f"for recordings of yours give --wav-dir {name}=FOLDER"
            )
        if name in wav_dirs:
            raise DataError(
                f"domain {name!r} cannot be both built in and {wav_dirs[name]}; name one otherwise"
            )
    return [RECIPES[name] for name in dict.fromkeys(domains)]


def _plan(
    recipes: Sequence[Recipe],
    wav_dirs: Mapping[str, Path],
    data_dir: Path,
    seed: int,
    report: Report,
) -> tuple[list[Domain], list[Job], list[str]]:
    """The domains to make, the jobs that make them, and warnings.

    The user's folders come first: they need no download to fail.
    """
    rows: list[Domain] = []
    jobs: list[Job] = []
    warnings: list[str] = []
    for name in sorted(wav_dirs):
        rows.append(Domain(name, f"Recordings of {name}.", LOUDNESS_DB, OWN_LICENCE))
        found, unusable = recording_jobs(name, wav_dirs[name], seed, report)
        jobs += found
        warnings += unusable
    if recipes:
        library = fetch_library(recipes, data_dir, report)
        for recipe in recipes:
            rows.append(
                Domain(recipe.name, recipe.description, LOUDNESS_DB, domain_licence(library))
            )
            jobs += render_jobs(recipe, library, seed)
    return rows, jobs, warnings


def fetch_library(recipes: Sequence[Recipe], data_dir: Path, report: Report) -> Library:
    """Scores of these domains, SoundFonts and synthesiser. Raises DataError if one is missing."""
    synthesiser = synthesiser_version()
    wheel, fonts, packages = sources.MUSIC21, sources.SOUNDFONTS, data_dir / "packages"
    total = 1 + len(fonts)
    report(Step("fetch", 0, total, f"scores: {wheel.name} {wheel.version}"))
    archive = sources.fetch_wheel(wheel, packages)
    works = [work for recipe in recipes for split in SPLITS for work in recipe.works(split)]
    paths = sources.unpack_scores(archive, works, data_dir / "scores")
    found = {}
    for count, font in enumerate(fonts, start=1):
        report(Step("fetch", count, total, f"sound: {font.name} {font.version}"))
        found[font] = sources.find_sounds(font, packages)
    report(Step("fetch", total, total, "scores and sounds are here"))
    return Library(wheel, paths, found, synthesiser)


class _Work:
    """The jobs of one run: kept where an earlier run did them, else made and noted at once."""

    def __init__(self, folder: Path, before: Manifest, seed: int, report: Report) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.journal = Journal(folder)
        self.known = {row.file: row for row in [*before.files, *self.journal.rows()]}
        self.seed = seed
        self.report = report
        self.made = 0

    def run(self, jobs: Sequence[Job], pool: Executor) -> list[FileRow]:
        """The rows of all jobs. What is done stays done if one of them fails."""
        rows = [row for job in jobs if (row := self._kept(job)) is not None]
        done = {row.file for row in rows}
        self.report(Step("render", len(done), len(jobs), "looked through what is here"))
        pending = [
            pool.submit(make_file, self.folder, self.seed, job)
            for job in jobs
            if job.file not in done
        ]
        try:
            for count, finished in enumerate(as_completed(pending), start=len(done) + 1):
                rows.append(finished.result())
                self.journal.add(rows[-1])
                self.made += 1
                self.report(Step("render", count, len(jobs), rows[-1].file))
        finally:
            for unfinished in pending:
                unfinished.cancel()
        return rows

    def _kept(self, job: Job) -> FileRow | None:
        row, path = self.known.get(job.file), self.folder / job.file
        if row is None or row.request != job.request or not path.is_file():
            return None
        return row if sources.sha256_of(path) == row.sha256 else None

    def sweep(self, after: Manifest, domains: Sequence[str]) -> None:
        """End the journal; remove files of these domains that the manifest no longer lists."""
        listed = {row.file for row in after.files}
        for file, row in self.known.items():
            if row.domain in domains and file not in listed:
                (self.folder / file).unlink(missing_ok=True)
        for domain in domains:
            for part in (self.folder / domain).rglob("*.part"):
                part.unlink(missing_ok=True)
        self.journal.close()


def make_file(folder: Path, seed: int, job: Job) -> FileRow:
    """Do one job below ``folder``; it gets its name when it is whole. May run in any process.

    Raises DataError if its source cannot be used, or it cannot be written.
    """
    samples = job.make()
    path = folder / job.file
    part = path.with_name(path.name + ".part")
    # Through memory: libsndfile does not say why a disk refused.
    sound = io.BytesIO()
    soundfile.write(sound, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    with writing(path, DataError, WRITING_REMEDY):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(sound.getbuffer())
        os.replace(part, path)
    return FileRow(
        domain=job.domain,
        split=job.split,
        file=job.file,
        seconds=round(len(samples) / SAMPLE_RATE, 3),
        sha256=sources.sha256_of(path),
        seed=seed,
        request=job.request,
        **asdict(job.origin),
    )


def _minutes(manifest: Manifest) -> dict[tuple[str, str], float]:
    minutes: dict[tuple[str, str], float] = {}
    for row in manifest.files:
        key = row.domain, row.split
        minutes[key] = minutes.get(key, 0.0) + row.seconds / 60.0
    return minutes
