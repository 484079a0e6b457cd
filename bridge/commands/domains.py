"""``umt domains``: what a bundle can play."""

from __future__ import annotations

from bridge.commands.options import BundleOption

EPILOG = "Example: umt domains --bundle runs/mine/bundle"


def domains(bundle: BundleOption = None) -> None:
    """List the domains of a bundle, with the index and the name that --to and OSC take."""
    from rich.table import Table

    from bridge.console import show
    from model.bundle import load_bundle

    table = Table("index", "domain", "description", "loudness", "licence of scores and sounds")
    for index, domain in enumerate(load_bundle(bundle).domains):
        loudness = f"{domain.loudness_db:.1f} dBFS"
        table.add_row(str(index), domain.name, domain.description, loudness, domain.licence)
    show(table)
