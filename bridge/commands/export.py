"""``umt export``: the network in formats that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.commands.extras import needs
from bridge.commands.options import BundleOption

app = typer.Typer(
    help="Write a bundle for other programs.",
    epilog="Example: umt export onnx plugin/network",
    no_args_is_help=True,
)


@app.command("onnx", epilog="Example: umt export onnx plugin/network --to strings")
def onnx(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write to.")],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DOMAIN", help="One domain alone.  [default: all of them]"),
    ] = None,
    bundle: BundleOption = None,
) -> None:
    """Write encoder and decoders as ONNX graphs, in float32.

    encoder.onnx makes a latent of each hop, decoder-DOMAIN.onnx the logits of each sample;
    manifest.json says what goes in and comes out. Every file is run with onnxruntime beside the
    reference; if one differs, nothing is written. Files that exist are replaced.
    """
    from bridge.console import say, working
    from bridge.loading import domain_index
    from bridge.outputs import shown
    from model.bundle import load_bundle

    with needs("export"):
        from bridge.export import MANIFEST, export_onnx

    network = load_bundle(bundle)
    names = (
        network.domain_names if to is None else [network.domain_names[domain_index(network, to)]]
    )
    for row in export_onnx(network, folder, names, working):
        where, size = shown(folder / row.file), f"{row.size / 1e6:.1f} MB"
        say(f"{where}: {size}, {row.checked} within {row.largest_error:.1e} of the reference")
    say(f"{shown(folder / MANIFEST)}: what goes in and comes out")
