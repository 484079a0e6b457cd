"""The examples at work: Pure Data and SuperCollider steer a real server and hear its answers."""

from __future__ import annotations

import json
from pathlib import Path

from bridge.addresses import Addresses
from bridge.osc import OscServer
from model.bundle import Bundle
from realtime.controls import SETTINGS_BY_PATH, Controls, Mailbox
from realtime.meter import Meter
from tests.jack import end, wait_until
from tests.osc_programs import ROOT, start_pd, start_sclang


def test_the_pd_patch_steers_and_hears(server: OscServer, mailbox: Mailbox, tmp_path: Path) -> None:
    """Every number it sends is a float."""
    server.meter = Meter(0.005)
    pd = start_pd(
        server.port,
        "umt-subscribe bang",
        "umt-domain symbol c",
        "umt-mix 0.25",
        "umt-gain-out -6",
        "umt-freeze 1",
        "umt-blend 0.5",
        "umt-blend-domain symbol b",
        "umt-temperature 0.5",
        "umt-noise 9",
        "umt-panic bang",
        "umt-index 1",
        log=tmp_path / "pd.log",
    )
    said = (tmp_path / "pd.log").read_text
    expected = Controls(
        domain=1, mix=0.25, gain_out=-6.0, freeze=True, blend=0.5, blend_domain=1,
        temperature=0.5, panics=1,
    )  # fmt: skip
    try:
        wait_until(lambda: mailbox.latest == expected, 20, f"{expected}, not {mailbox.latest}")
        mailbox.replace(mix=0.75)
        wait_until(lambda: "umt-state: mix 0.75" in said(), 10, "the news")
    finally:
        end(pd)
    assert "umt-state: domain b" in said()
    assert "umt-error: /umt/latent/noise" in said()
    assert "couldn't create" not in said()


def test_the_supercollider_script_steers_and_hears(
    server: OscServer, mailbox: Mailbox, tmp_path: Path
) -> None:
    server.meter = Meter(0.005)
    script, log = ROOT / "examples" / "umt.scd", tmp_path / "sclang.log"
    sclang = start_sclang(server.port, script, log=log, UMT_BARS="2")
    try:
        status = sclang.wait(60)
    finally:
        end(sclang)
    said = log.read_text()
    assert status == 0, said
    assert "ERROR" not in said
    assert "domain is b" in said
    assert "a hop took 0.0 ms (median)" in said
    assert mailbox.latest.domain == 1
    assert mailbox.latest.mix == 1.0
    assert not server.addresses.subscribers


def test_every_control_is_in_the_panels(tiny_bundle: Bundle, mailbox: Mailbox) -> None:
    """No panel has an address that there is not; the patch has all that a performer turns."""
    known = set(Addresses(tiny_bundle, mailbox).handlers)
    session = json.loads((ROOT / "examples" / "open-stage-control.json").read_text())
    told = {"/umt/state", "/umt/latency"}
    addresses = {widget["address"] for widget in session["content"]["widgets"]}
    assert addresses <= known | told
    patch = (ROOT / "examples" / "umt.pd").read_text()
    sent = {
        "/" + line.split("oscformat ")[1].rstrip(";").replace(" ", "/")
        for line in patch.splitlines()
        if "oscformat" in line
    }
    assert sent <= known
    turned = {f"/umt/{path}" for path in SETTINGS_BY_PATH} - {"/umt/seed"}
    assert turned <= sent
    assert turned <= addresses
