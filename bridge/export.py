"""A bundle as ONNX files, each run beside the reference before it takes its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from bridge.json_text import json_text
from bridge.outputs import new_file
from model import mulaw
from model.bundle import Bundle
from model.config import LEVELS, SAMPLE_RATE, SILENCE, ModelConfig
from model.errors import ExportError
from model.interface import Codes, Latents
from model.onnx_graphs import decoder_step, encoder_hop
from model.reference import ReferenceDecoder, ReferenceEncoder

FORMAT, FORMAT_VERSION = "umt-onnx", 1
MANIFEST, ENCODER = "manifest.json", "encoder.onnx"
TOLERANCE = 1e-4
"""The most that latents or logits may differ from the float64 reference's, as a share of the
largest, or of 1: an untrained network of the paper's size has latents of thousands, which float32
itself holds to about 2e-3."""

_MARGIN_HOPS = 4

Audio = NDArray[np.float32]
Working = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how far from the reference it came at most."""

    file: str
    size: int
    checked: str
    """What was compared."""
    largest_error: float


def decoder_file(domain: str) -> str:
    """Where the decoder of a domain goes."""
    return f"decoder-{domain}.onnx"


def delay_hops(config: ModelConfig) -> int:
    """Runs of the encoder until the first that has a latent of its own: its look-ahead."""
    return -(-config.encoder.lookahead_samples // config.hop_samples)


def export_onnx(
    bundle: Bundle, folder: Path, domains: Sequence[str], working: Working
) -> list[Exported]:
    """Write encoder, decoders and manifest; all of them get their names, or none does.

    domains: whose decoders. working: is told what is done meanwhile, and shows it.
    Raises ExportError if a graph is not valid or does not compute what the reference does, or a
    file cannot be written.
    """
    files = [ENCODER, *map(decoder_file, domains)]
    with ExitStack() as parts:
        # Opened first, the manifest gets its name last.
        manifest = parts.enter_context(new_file(folder / MANIFEST, ExportError))
        paths = [parts.enter_context(new_file(folder / name, ExportError)) for name in files]
        audio = glide(bundle.config)
        with working(f"writing and checking {ENCODER}"):
            paths[0].write_bytes(encoder_hop(bundle.config, bundle.encoder))
            latents, encoder = _checked_encoder(bundle, paths[0], audio)
        exported = [encoder]
        for domain, path in zip(domains, paths[1:], strict=True):
            with working(f"writing and checking {decoder_file(domain)}"):
                path.write_bytes(decoder_step(bundle.config, bundle.decoders[domain]))
                exported.append(_checked_decoder(bundle, domain, path, latents, audio))
        rows = _manifest(bundle, domains, paths, exported)
        manifest.write_text(json_text(rows), encoding="utf-8")
    return exported


def glide(config: ModelConfig) -> Audio:
    """A tone that glides up in noise, for as long as the encoder remembers and some hops more."""
    hops = config.encoder.receptive_field // config.hop_samples + delay_hops(config) + _MARGIN_HOPS
    rng = np.random.default_rng(1805)
    times = np.arange(hops * config.hop_samples) / SAMPLE_RATE
    tone = 0.6 * np.sin(2 * np.pi * (220.0 + 800.0 * times) * times)
    return (tone + rng.normal(0.0, 0.1, times.shape)).astype(np.float32)


def run_encoder(config: ModelConfig, session: Any, audio: Audio) -> Latents:
    """Latents of whole hops of audio, as a host gets them: one run a hop."""
    _, state = session.get_inputs()
    past = np.zeros(state.shape, np.float32)
    latents = []
    for hop in audio.reshape(-1, config.hop_samples):
        latent, past = session.run(["latent", "next_state"], {"audio": hop, "state": past})
        latents.append(latent)
    return np.concatenate(latents[delay_hops(config) :])


def run_decoder(config: ModelConfig, session: Any, latents: Latents, codes: Codes) -> Audio:
    """Logits of every code given the true ones, as a host gets them: one run a sample."""
    dilations = np.array(config.decoder.dilations)
    ends = np.cumsum(dilations)
    queues = np.zeros((ends[-1], config.decoder.residual_channels), np.float32)
    logits = np.empty((len(codes), LEVELS), np.float32)
    known = [SILENCE, *codes[:-1]]
    for n, code in enumerate(known):
        slots = ends - dilations + n % dilations
        given = {
            "code": np.array([code], np.int64),
            "latent": latents[n // config.hop_samples][None],
            "pasts": queues[slots],
        }
        logits[n], queues[slots] = session.run(["logits", "inputs"], given)
    return logits


def _checked_encoder(bundle: Bundle, path: Path, audio: Audio) -> tuple[Latents, Exported]:
    """The reference's latents, and how near the file comes to them."""
    config = bundle.config
    reference = ReferenceEncoder(config, bundle.encoder)
    expected = reference.encode(audio, reference.initial_state())
    found = run_encoder(config, _session(path, ENCODER), audio)
    checked = f"latents of {len(audio) // config.hop_samples} hops"
    return expected, _compared(path, ENCODER, checked, found, expected[: len(found)])


def _checked_decoder(
    bundle: Bundle, domain: str, path: Path, latents: Latents, audio: Audio
) -> Exported:
    config, name = bundle.config, decoder_file(domain)
    # Every queue is gone round twice.
    hops = min(len(latents), 2 * max(config.decoder.dilations) // config.hop_samples + 1)
    codes = mulaw.encode(audio[: hops * config.hop_samples])
    reference = ReferenceDecoder(config, bundle.decoders[domain])
    expected = reference.teacher_force(latents[:hops], codes, reference.initial_state())
    found = run_decoder(config, _session(path, name), latents[:hops], codes)
    return _compared(path, name, f"logits of {len(codes)} samples", found, expected)


def _session(path: Path, name: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        onnx.checker.check_model(str(path), full_check=True)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # What onnxruntime raises has no base of its own.
    except Exception as error:
        raise ExportError(f"{name} is no graph that onnxruntime runs: {error}") from error


def _compared(path: Path, name: str, checked: str, found: Audio, expected: Audio) -> Exported:
    error = float(np.abs(found - expected).max())
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    # Not the other way round: NaN is wrong, too.
    if not error <= allowed:
        raise ExportError(
            f"{name} is not the reference: {checked} differ by up to {error:.3g}, "
            f"more than {allowed:.1g}; nothing was written, try another version of onnxruntime"
        )
    return Exported(name, path.stat().st_size, checked, error)


def _manifest(
    bundle: Bundle, domains: Sequence[str], paths: Sequence[Path], exported: Sequence[Exported]
) -> dict[str, Any]:
    """What a host must know; docs/export.md explains it."""
    config = bundle.config
    rows = []
    for name, row in zip(domains, exported[1:], strict=True):
        index = bundle.domain_index(name)
        domain = bundle.domains[index]
        rows.append(
            {
                "index": index,
                "name": name,
                "file": row.file,
                "temperature": domain.temperature,
                "loudness_db": domain.loudness_db,
                "licence": domain.licence,
                "largest_logit_error": row.largest_error,
            }
        )
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "profile": config.profile,
        "sample_rate": SAMPLE_RATE,
        "hop_samples": config.hop_samples,
        "latent_channels": config.latent_channels,
        "levels": LEVELS,
        "silence": SILENCE,
        "encoder": {
            "file": ENCODER,
            **_ends(paths[0]),
            "state": {"state": "next_state"},
            "delay_hops": delay_hops(config),
            "lookahead_samples": config.encoder.lookahead_samples,
            "largest_latent_error": exported[0].largest_error,
        },
        "decoder": {
            **_ends(paths[1]),
            "queues": {"pasts": "inputs"},
            "dilations": list(config.decoder.dilations),
        },
        "domains": rows,
    }


def _ends(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Inputs and outputs of a file, by name, type and shape."""
    graph = onnx.load(path).graph
    ends = {}
    for name in ("input", "output"):
        ends[f"{name}s"] = [
            {
                "name": value.name,
                "dtype": str(
                    onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
                ),
                "shape": [size.dim_value for size in value.type.tensor_type.shape.dim],
            }
            for value in getattr(graph, name)
        ]
    return ends
