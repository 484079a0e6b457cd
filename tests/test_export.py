"""Exported networks: what they compute, what is written, what is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model import mulaw
from model.bundle import Bundle, Domain, load_bundle, random_bundle, save_bundle
from model.config import EncoderConfig, ModelConfig, profile
from model.reference import ReferenceDecoder, ReferenceEncoder
from tests.command_line import ROOT, umt

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra named export")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, of the same extra")

from bridge.export import delay_hops, run_decoder, run_encoder  # noqa: E402
from model.onnx_graphs import decoder_step, encoder_hop, encoder_state_size  # noqa: E402

CENTRED = EncoderConfig(blocks=2, layers_per_block=3, channels=16, causal=False)
"""Looks 15 samples ahead."""


def session(graph: bytes) -> Any:
    onnx.checker.check_model(graph, full_check=True)
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def noise(samples: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(6).normal(0, 0.3, samples).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, its second domain calmer."""
    place: Path = tmp_path_factory.mktemp("bundle") / "tiny"
    a, _, c = tiny_bundle.domains
    save_bundle(replace(tiny_bundle, domains=(a, Domain("b", temperature=0.5), c)), place)
    return place


@pytest.fixture(scope="module")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("exported") / "network"
    said = umt("export", "onnx", place, "--bundle", folder)
    assert said.status == 0, said.err
    return place


@pytest.mark.parametrize(
    ("hop", "encoder", "delay"),
    [
        (80, profile("tiny").encoder, 0),
        # Shorter than the kernels reach, longer, a whole look-ahead, and a hop beside it.
        (7, profile("tiny").encoder, 0),
        (80, CENTRED, 1),
        (15, CENTRED, 1),
        (16, CENTRED, 1),
        (14, CENTRED, 2),
        (1, CENTRED, 15),
    ],
)
def test_an_encoder_run_hop_by_hop_equals_the_reference(
    hop: int, encoder: EncoderConfig, delay: int
) -> None:
    config = replace(profile("tiny"), hop_samples=hop, encoder=encoder)
    weights = random_bundle(config, seed=3).encoder
    audio = noise(40 * hop)
    reference = ReferenceEncoder(config, weights)
    expected = reference.encode(audio, reference.initial_state())
    found = run_encoder(config, session(encoder_hop(config, weights)), audio)
    assert delay_hops(config) == delay
    assert len(expected) == len(found)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_audio_that_is_none_is_clipped_or_silent(tiny_bundle: Bundle) -> None:
    config = tiny_bundle.config
    odd = noise(config.hop_samples)
    odd[:6] = [np.nan, np.inf, -np.inf, 7.0, -7.0, -0.0]
    expected = odd.copy()
    expected[:6] = [0.0, 1.0, -1.0, 1.0, -1.0, 0.0]
    encoder = session(encoder_hop(config, tiny_bundle.encoder))
    np.testing.assert_array_equal(
        run_encoder(config, encoder, odd), run_encoder(config, encoder, expected)
    )


def test_every_code_becomes_the_level_that_the_reference_gives_it(tiny_bundle: Bundle) -> None:
    config = replace(tiny_bundle.config, hop_samples=256)
    encoder = session(encoder_hop(config, tiny_bundle.encoder))
    audio = mulaw.decode(np.arange(256, dtype=np.uint8))
    state = np.zeros(encoder_state_size(config), np.float32)
    levels = []
    for n in range(256):
        # The state begins with the two newest levels.
        _, after = encoder.run(None, {"audio": np.roll(audio, 255 - n), "state": state})
        levels.append(after[1])
    np.testing.assert_array_equal(levels, mulaw.companded(np.arange(256, dtype=np.uint8)))


@pytest.mark.parametrize("name", ["a", "c"])
def test_a_decoder_run_sample_by_sample_equals_the_reference(
    name: str, tiny_bundle: Bundle
) -> None:
    config: ModelConfig = replace(tiny_bundle.config, hop_samples=11)
    weights = tiny_bundle.decoders[name]
    rng = np.random.default_rng(7)
    latents = rng.normal(0, 1, (6, config.latent_channels)).astype(np.float32)
    codes = rng.integers(0, 256, 66).astype(np.uint8)
    reference = ReferenceDecoder(config, weights)
    expected = reference.teacher_force(latents, codes, reference.initial_state())
    found = run_decoder(config, session(decoder_step(config, weights)), latents, codes)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_folder_holds_encoder_decoders_and_a_manifest_that_lists_them(exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    files = [manifest["encoder"]["file"], *(row["file"] for row in manifest["domains"])]
    assert files == ["encoder.onnx", "decoder-a.onnx", "decoder-b.onnx", "decoder-c.onnx"]
    assert {path.name for path in exported.iterdir()} == {"manifest.json", *files}
    assert [(row["name"], row["index"]) for row in manifest["domains"]] == [
        ("a", 0), ("b", 1), ("c", 2),
    ]  # fmt: skip
    assert [row["temperature"] for row in manifest["domains"]] == [1.0, 0.5, 1.0]
    assert all(0 < row["largest_logit_error"] < 1e-3 for row in manifest["domains"])
    assert (manifest["hop_samples"], manifest["sample_rate"]) == (80, 16_000)
    for file in files:
        model = onnxruntime.InferenceSession(exported / file)
        part = manifest["encoder" if file == "encoder.onnx" else "decoder"]
        for listed, actual in (
            (part["inputs"], model.get_inputs()),
            (part["outputs"], model.get_outputs()),
        ):
            assert [(row["name"], row["shape"]) for row in listed] == [
                (row.name, row.shape) for row in actual
            ]


def test_the_largest_error_of_each_file_is_printed(folder: Path, tmp_path: Path) -> None:
    said = umt("export", "onnx", tmp_path, "--bundle", folder, "--to", "b")
    assert said.status == 0, said.err
    encoder, decoder, manifest = said.out.splitlines()
    error = r"within \d\.\de-\d\d of the reference"
    assert re.search(rf"encoder\.onnx: .* latents of \d+ hops {error}$", encoder)
    assert re.search(rf"decoder-b\.onnx: .* logits of \d+ samples {error}$", decoder)
    assert "manifest.json" in manifest
    assert {path.name for path in tmp_path.iterdir()} == {
        "encoder.onnx", "decoder-b.onnx", "manifest.json",
    }  # fmt: skip


def test_the_host_in_the_documentation_plays_what_the_reference_plays(
    exported: Path, folder: Path
) -> None:
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    saved = load_bundle(folder)
    config = saved.config
    audio = noise(3 * config.hop_samples)
    uniforms = np.random.default_rng(8).random(len(audio), dtype=np.float32)
    heard = names["translate"](exported, "b", audio, uniforms)
    encoder = ReferenceEncoder(config, saved.encoder)
    latents = encoder.encode(audio, encoder.initial_state())
    decoder = ReferenceDecoder(config, saved.decoders["b"])
    codes = decoder.generate(latents, uniforms, decoder.initial_state(), temperature=0.5)
    np.testing.assert_allclose(heard, mulaw.decode(codes), atol=1e-6)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_graph_that_computes_something_else_leaves_no_file(
    part: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, make, weight = {
        "encoder": ("encoder_hop", encoder_hop, "latent.bias"),
        "decoder": ("decoder_step", decoder_step, "head.logits.bias"),
    }[part]

    def wrong(config: ModelConfig, weights: Any) -> bytes:
        return make(config, {**weights, weight: weights[weight] + np.float32(0.5)})

    monkeypatch.setattr(f"bridge.export.{name}", wrong)
    said = umt("export", "onnx", tmp_path / "network", "--bundle", folder)
    assert said.status == 1
    assert "differ by up to 0.5" in said.complaint
    assert part in said.complaint
    assert not list((tmp_path / "network").iterdir())


def test_a_graph_that_cannot_be_run_leaves_what_was_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.export.decoder_step", lambda *_: b"no graph")
    (tmp_path / "encoder.onnx").write_bytes(b"of before")
    said = umt("export", "onnx", tmp_path, "--bundle", folder, "--to", "c")
    assert said.status == 1
    assert "decoder-c.onnx is no graph that onnxruntime runs" in said.complaint
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]
    assert (tmp_path / "encoder.onnx").read_bytes() == b"of before"


def test_a_domain_that_there_is_not_is_named(folder: Path, tmp_path: Path) -> None:
    said = umt("export", "onnx", tmp_path, "--bundle", folder, "--to", "kazoo")
    assert said.status == 2
    assert "kazoo" in said.complaint
    assert "a, b, c" in said.complaint


def test_a_place_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = umt("export", "onnx", tmp_path / "file", "--bundle", folder)
    assert said.status == 1
    assert "file is not a folder" in said.complaint


def test_a_full_disk_names_a_file_and_leaves_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    said = umt("export", "onnx", tmp_path / "out", "--bundle", folder)
    assert said.status == 1
    assert "cannot write" in said.complaint
    assert said.complaint.endswith(".onnx: No space left on device")
    assert not list((tmp_path / "out").iterdir())


def test_without_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in ("bridge.export", "model.onnx_graphs"):
        monkeypatch.delitem(sys.modules, name)
    said = umt("export", "onnx", tmp_path)
    assert said.status == 1
    assert "needs onnx" in said.complaint
    assert "umt-live[export]" in said.complaint
