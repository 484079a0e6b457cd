"""A bundle loads as it was saved; damaged, foreign and newer ones are refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model import bundle_files
from model.bundle import (
    Bundle,
    Domain,
    HeldOutNll,
    add_domain,
    bundle_copy,
    load_bundle,
    random_bundle,
    record_nll,
    save_bundle,
)
from model.errors import BundleError, UnknownDomain


@pytest.fixture
def folder(tmp_path: Path, tiny_bundle: Bundle) -> Path:
    save_bundle(tiny_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_bundle_loads_as_it_was_saved(folder: Path, tiny_bundle: Bundle) -> None:
    loaded = load_bundle(folder)
    assert loaded.config == tiny_bundle.config
    assert loaded.domains == tiny_bundle.domains
    assert loaded.about == tiny_bundle.about
    for name, weights in tiny_bundle.decoders.items():
        for key, value in weights.items():
            half = value.astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(loaded.decoders[name][key], half)
            assert loaded.decoders[name][key].dtype == np.float32


def test_saving_again_replaces_the_bundle(folder: Path) -> None:
    other = random_bundle("tiny", domains=("z",), seed=9)
    save_bundle(other, folder)
    assert load_bundle(folder).domain_names == ("z",)


def test_a_missing_bundle_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at .*nowhere"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["encoder.safetensors", "domains/b.safetensors"])
def test_one_flipped_bit_is_noticed(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        load_bundle(folder)


def test_a_missing_domain_file_is_named(folder: Path) -> None:
    (folder / "domains/c.safetensors").unlink()
    with pytest.raises(BundleError, match=r"c\.safetensors"):
        load_bundle(folder)


def test_a_truncated_manifest_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BundleError, match="is damaged"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format="other"), "does not describe a umt bundle"),
        (lambda m: m.update(format_version=2), "install a newer umt-live"),
        (lambda m: m.update(format_version="1"), "no usable format_version"),
        (lambda m: m.pop("domains"), "is incomplete"),
        (lambda m: m.update(domains=[]), "each domain once"),
        (lambda m: m["domains"].append(m["domains"][0]), "each domain once"),
        (lambda m: m["domains"][0].update(name="../evil"), "'../evil'"),
        (lambda m: m["config"]["decoder"].update(residual_channels=32), "expected float16"),
        (lambda m: m["config"]["decoder"].update(blocks=2), "does not fit"),
        (lambda m: m["config"].update(hop_samples=0), "hop_samples"),
        (lambda m: m["sha256"].clear(), "is damaged"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_manifest(folder, change)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


def test_scores_load_as_they_were_saved(folder: Path, tiny_bundle: Bundle) -> None:
    nll = {"a": HeldOutNll(3.25, 3.26, 800), "c": HeldOutNll(4.0, 3.9, 80)}
    save_bundle(replace(tiny_bundle, nll=nll), folder)
    assert load_bundle(folder).nll == nll
    assert nll["a"].int8_cost == pytest.approx(0.01)


def test_scores_are_recorded_and_nothing_else_changes(folder: Path) -> None:
    manifest = folder / "manifest.json"
    before = json.loads(manifest.read_text())
    record_nll({"b": HeldOutNll(3.25, 3.26, 800)}, folder)
    row = {"b": {"float32": 3.25, "int8": 3.26, "samples": 800}}
    assert json.loads(manifest.read_text()) == before | {"nll": row}


def test_a_bundle_without_scores_loads(folder: Path) -> None:
    edit_manifest(folder, lambda m: m.pop("nll"))
    assert load_bundle(folder).nll == {}


def scored_as(**changes: object) -> Callable[[dict[str, Any]], object]:
    """A change that gives domain b a score with some fields changed."""
    row = {"float32": 3.0, "int8": 3.0, "samples": 800} | changes
    return lambda manifest: manifest.update(nll={"b": row})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (scored_as(int8=float("nan")), "nll of b is damaged: int8 must be .* got nan"),
        (scored_as(float32=-0.1), "float32 must be .* got -0.1"),
        (scored_as(float32="3.0"), "float32 must be .* got '3.0'"),
        (scored_as(int8=True), "int8 must be .* got True"),
        (scored_as(samples=0), "samples must be a whole number above 0, got 0"),
        (scored_as(samples=0.5), "samples must be a whole number above 0, got 0.5"),
        (scored_as(int4=3.0), "nll of b is damaged: .*int4"),
        (lambda m: m.update(nll={"b": {"int8": 3.0}}), "nll of b is damaged: .*float32"),
        (lambda m: m.update(nll={"b": None}), "nll of b is damaged"),
        (lambda m: m.update(nll={"horn": {}}), "nll must name domains"),
        (lambda m: m.update(nll=[3.0]), "nll must name domains"),
        (lambda m: m.update(nll=None), "nll must name domains"),
    ],
)
def test_a_damaged_score_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_manifest(folder, change)
    with pytest.raises(BundleError, match=f"manifest.json: .*{message}.*umt eval nll --save"):
        load_bundle(folder)


def test_a_manifest_that_cannot_be_replaced_is_one_clear_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(BundleError, match="cannot write bundle .*: Permission denied"):
        record_nll({}, folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def new_decoder() -> dict[str, Any]:
    return dict(random_bundle("tiny", ("kazoo",), seed=7).decoders["kazoo"])


def test_an_added_domain_is_one_file_and_one_row(folder: Path) -> None:
    before, rows = contents(folder), json.loads((folder / "manifest.json").read_text())
    kazoo = Domain("kazoo", "A kazoo.", -20.5, "CC0")
    score = HeldOutNll(2.0, 2.1, 80)
    add_domain(folder, kazoo, new_decoder(), score, {"steps": 3})
    after = contents(folder)
    assert after.keys() - before.keys() == {"domains/kazoo.safetensors"}
    assert all(after[name] == before[name] for name in before if name != "manifest.json")
    loaded = load_bundle(folder)
    assert loaded.domain_names == ("a", "b", "c", "kazoo")
    assert (loaded.domains[3], loaded.nll) == (kazoo, {"kazoo": score})
    assert loaded.about == rows["about"] | {"added": {"kazoo": {"steps": 3}}}
    for key, value in new_decoder().items():
        half = value.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(loaded.decoders["kazoo"][key], half)


def test_a_domain_is_added_once(folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(BundleError, match="has a domain 'b' already; choose another name"):
        add_domain(folder, Domain("b"), new_decoder())
    assert contents(folder) == before


@pytest.mark.parametrize("file", ["kazoo.safetensors", "manifest.json"])
def test_a_crash_while_a_domain_is_added_leaves_the_bundle_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    honest = bundle_files.os.replace

    def crash(source: str, target: Path) -> None:
        if target.name == file:
            raise OSError(28, "No space left on device")
        honest(source, target)

    before = (folder / "manifest.json").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", crash)
        with pytest.raises(BundleError, match="cannot write bundle .*: No space left"):
            add_domain(folder, Domain("kazoo"), new_decoder())
    assert load_bundle(folder).domain_names == ("a", "b", "c")
    assert (folder / "manifest.json").read_bytes() == before
    assert not [path for path in folder.rglob(".*")]
    add_domain(folder, Domain("kazoo"), new_decoder())
    assert load_bundle(folder).domain_names[-1] == "kazoo"


def test_a_copy_holds_what_the_manifest_lists_and_is_whole_or_not_there(
    folder: Path, tmp_path: Path
) -> None:
    before = contents(folder)
    (folder / "domains" / "stray.safetensors").write_bytes(b"half a file")
    with pytest.raises(KeyboardInterrupt), bundle_copy(folder, tmp_path / "copy"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    (tmp_path / ".copy.part").mkdir()
    (tmp_path / ".copy.part" / "left by a kill").write_text("")
    with bundle_copy(folder, tmp_path / "copy") as part:
        assert not (tmp_path / "copy").exists()
        assert load_bundle(part).domain_names == ("a", "b", "c")
    assert contents(tmp_path / "copy") == before
    assert not part.exists()


def test_a_copy_replaces_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with (
        pytest.raises(BundleError, match="copy exists already"),
        bundle_copy(folder, tmp_path / "copy"),
    ):
        pass


def test_the_default_bundle_loses_nothing_by_int8_that_can_be_heard() -> None:
    bundle = load_bundle()
    assert bundle.nll.keys() == set(bundle.domain_names)
    for name, score in bundle.nll.items():
        assert score.int8_cost <= 0.01, name
        assert score.samples >= 15 * 16_000, name


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    bundle = random_bundle("tiny", domains=("a",))
    bundle.encoder["latent.bias"][0] = np.nan
    save_bundle(bundle, tmp_path)
    with pytest.raises(BundleError, match=r"latent\.bias holds values that are not finite"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "a" * 65, "é"])
def test_domain_names_are_safe_as_file_names(name: str) -> None:
    with pytest.raises(BundleError, match="domain name"):
        Domain(name)


def test_domains_are_found_by_name_and_index(tiny_bundle: Bundle) -> None:
    assert tiny_bundle.domain_index("b") == 1
    assert tiny_bundle.domain_index(2) == 2
    for wrong in ("d", 3, -1):
        with pytest.raises(UnknownDomain, match="choose one of a, b, c"):
            tiny_bundle.domain_index(wrong)


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path, tiny_bundle: Bundle) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot write bundle"):
        save_bundle(tiny_bundle, tmp_path / "file" / "bundle")
