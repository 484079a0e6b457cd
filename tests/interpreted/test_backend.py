"""The backend as the engine and the command line use it."""

from __future__ import annotations

import shutil
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from model.bundle import Bundle, load_bundle, random_bundle, save_bundle
from model.config import profile
from model.errors import BackendUnavailable, ConfigError, ShapeError
from realtime.backends import open_backend, rest_states, warm_up
from realtime.switch import DomainPlayer, Target
from tests.command_line import umt
from triton_kernels.decoder import TritonDecoder
from triton_kernels.device import Lane, find_device


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle as it lies on disk, in float16."""
    path = tmp_path_factory.mktemp("bundle") / "tiny"
    config = replace(profile("tiny"), hop_samples=16)
    save_bundle(random_bundle(config, ("one", "two"), seed=0), path)
    return path


def decoder(bundle: Path, sampler: str | None = None) -> tuple[Bundle, TritonDecoder]:
    loaded = load_bundle(bundle)
    return loaded, TritonDecoder(loaded.config, loaded.decoders["one"], sampler=sampler)


def test_one_call_equals_many_and_a_state_can_be_saved(bundle: Path) -> None:
    loaded, ours = decoder(bundle)
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(3, loaded.config.latent_channels)).astype(np.float32)
    uniforms = rng.random(3 * loaded.config.hop_samples, dtype=np.float32)
    hop = loaded.config.hop_samples
    whole = ours.generate(latents, uniforms, ours.initial_state(), 0.7)
    state = ours.initial_state()
    first = ours.generate(latents[:1], uniforms[:hop], state, 0.7)
    saved, copy = state.arrays(), state.copy()
    rest = ours.generate(latents[1:], uniforms[hop:], state, 0.7)
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)
    np.testing.assert_array_equal(ours.generate(latents[1:], uniforms[hop:], copy, 0.7), rest)
    fresh = ours.initial_state()
    fresh.restore(saved)
    np.testing.assert_array_equal(ours.generate(latents[1:], uniforms[hop:], fresh, 0.7), rest)
    with pytest.raises(ShapeError, match="state 'previous' must be"):
        fresh.restore({**saved, "previous": np.zeros(2, np.int32)})


def test_calls_that_cannot_be_are_refused(bundle: Path) -> None:
    loaded, ours = decoder(bundle)
    state, hop = ours.initial_state(), loaded.config.hop_samples
    latents = np.zeros((1, loaded.config.latent_channels), np.float32)
    with pytest.raises(ShapeError, match="give 16 a latent"):
        ours.prime(latents, np.zeros(hop + 1, np.uint8), state)
    with pytest.raises(ConfigError, match="temperature must be at least"):
        ours.generate(latents, np.zeros(hop, np.float32), state, 0.0)
    with pytest.raises(ConfigError, match="triton backend has one thread"):
        open_backend("triton", loaded, threads=2)


def test_a_sampler_that_would_not_be_resident_is_refused(bundle: Path) -> None:
    """The interpreter runs one program after another: the pipeline would wait for ever."""
    with pytest.raises(
        BackendUnavailable, match="the pipeline sampler does not fit on this device"
    ):
        decoder(bundle, sampler="pipeline")


def test_threads_take_turns_in_a_lane() -> None:
    lane = Lane(torch.device("cpu"))
    inside, leave, second = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with lane():
            inside.set()
            leave.wait(10)

    def other() -> None:
        with lane():
            second.set()

    threads = [threading.Thread(target=work, daemon=True) for work in (first, other)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    assert not second.wait(0.1)
    leave.set()
    assert second.wait(10)
    for thread in threads:
        thread.join(10)


def test_a_lane_is_left_when_its_work_fails() -> None:
    lane = Lane(torch.device("cpu"))
    with pytest.raises(ValueError, match="failed"), lane():
        raise ValueError("failed")
    with lane():
        pass


def test_two_decoders_draw_in_two_threads_what_each_draws_alone(bundle: Path) -> None:
    loaded, first = decoder(bundle)
    second = TritonDecoder(loaded.config, loaded.decoders["two"])
    latents = np.ones((1, loaded.config.latent_channels), np.float32)
    uniforms = np.linspace(0, 0.99, loaded.config.hop_samples, dtype=np.float32)

    def drawn(ours: TritonDecoder) -> np.ndarray:
        return ours.generate(latents, uniforms, ours.initial_state())

    alone = [drawn(ours) for ours in (first, second)]
    with ThreadPoolExecutor(2) as threads:
        beside = list(threads.map(drawn, (first, second)))
    np.testing.assert_array_equal(beside, alone)


@pytest.mark.parametrize(
    ("capability", "compiler", "headers", "wrong"),
    [
        ((7, 0), "gcc", True, "capability 7.5 or later, Some GPU has 7.0; use --backend"),
        ((9, 0), None, True, "triton needs a C compiler .* install gcc"),
        ((9, 0), "gcc", False, "nowhere has no Python.h; install python3-dev"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    compiler: str | None,
    headers: bool,
    wrong: str,
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(shutil, "which", lambda _name: compiler)
    if not headers:
        monkeypatch.setattr(sysconfig, "get_paths", lambda **_: {"include": "nowhere"})
    with pytest.raises(BackendUnavailable, match=wrong):
        find_device()


def test_the_engine_rests_on_it(bundle: Path) -> None:
    backend = open_backend("triton", load_bundle(bundle))
    warm_up(backend)
    rest = rest_states(backend)
    latent = backend.encoder.encode(
        np.zeros(backend.config.hop_samples, np.float32), rest.encoder.copy()
    )
    np.testing.assert_allclose(latent, rest.latent, atol=1e-6)


def test_a_switch_of_domain_sounds_as_on_the_cpu(bundle: Path) -> None:
    """The decoder that comes in is primed, then both play, then it alone."""
    loaded = load_bundle(bundle)
    rng = np.random.default_rng(4)
    latents = rng.normal(size=(5, 1, loaded.config.latent_channels)).astype(np.float32)
    heard = {}
    for name in ("triton", "numba-float32"):
        decoders = open_backend(name, loaded).decoders
        player = DomainPlayer(
            decoders,
            [decoder.initial_state() for decoder in decoders],
            latents[0],
            (1.0, 1.0),
            seed=5,
            domain=0,
        )
        player.fade_hops = 2
        heard[name] = np.concatenate(
            [
                player.play(latent, Target(int(i > 0)), 0.8).copy()
                for i, latent in enumerate(latents)
            ]
        )
        assert player.switches == 1
        assert player.domain == 1
    np.testing.assert_array_equal(heard["triton"], heard["numba-float32"])


def test_translate_gives_the_samples_of_numba(bundle: Path, tmp_path: Path) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(320) / 16_000)
    soundfile.write(tmp_path / "in.wav", tone, 16_000)
    written = {}
    for backend in ("triton", "numba-float32"):
        out = tmp_path / f"{backend}.wav"
        said = umt(
            "translate", tmp_path / "in.wav", out, "--to", "two", "--bundle", bundle,
            "--backend", backend, "--seed", "3",
        )  # fmt: skip
        assert said.status == 0, said.err
        assert ("interpreter stands in for a GPU" in said.err) == (backend == "triton")
        written[backend] = soundfile.read(out, dtype="int16")[0]
    assert np.abs(written["numba-float32"]).max() > 1_000
    np.testing.assert_array_equal(written["triton"], written["numba-float32"])
