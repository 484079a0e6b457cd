"""``umt domains``: what a bundle can play."""

from __future__ import annotations

from bridge.commands.options import BundleOption

EPILOG = "Example: umt domains --bundle runs/mine/bundle"


def domains(bundle: BundleOption = None) -> None:
    """List the domains of a bundle, with the index and the name that --to and OSC take."""
    from rich.table import Table

    from bridge.console import show
    from model.bundle import load_bundle

    network = load_bundle(bundle)
    columns = ("index", "domain", "description", "loudness", "int8")
    table = Table(*columns, "licence of scores and sounds")
    table.caption = "int8: held-out nats per sample that int8 weights lose"
    for index, domain in enumerate(network.domains):
        loudness = f"{domain.loudness_db:.1f} dBFS"
        score = network.nll.get(domain.name)
        cost = f"{score.int8_cost:+.4f}" if score else "unknown"
        table.add_row(str(index), domain.name, domain.description, loudness, cost, domain.licence)
    show(table)
