"""Controls: one checked snapshot, and a mailbox that never loses a change."""

from __future__ import annotations

import threading
from dataclasses import FrozenInstanceError, fields

import pytest

from model.errors import ConfigError, UnknownDomain
from realtime.controls import SETTINGS, SETTINGS_BY_PATH, Controls, Mailbox


def test_every_field_is_a_setting_with_its_default() -> None:
    counts = {"seedings", "panics"}
    assert list(SETTINGS) == [row.name for row in fields(Controls) if row.name not in counts]
    for name, setting in SETTINGS.items():
        assert getattr(Controls(), name) == setting.default
        assert SETTINGS_BY_PATH[setting.path] is setting
        assert setting.low <= setting.default <= setting.high
        assert setting.description


def test_paths_follow_the_osc_contract() -> None:
    assert set(SETTINGS_BY_PATH) == {
        "domain", "mix", "temperature", "gain/in", "gain/out", "bypass", "freeze",
        "latent/smooth", "latent/noise", "blend", "blend/domain", "seed", "record",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mix", 1.001, "mix must be 0 to 1, got 1.001"),
        ("mix", -0.1, "mix must be 0 to 1, got -0.1"),
        ("mix", float("nan"), "mix must be a number, got nan"),
        ("temperature", 0.04, "temperature must be 0.05 to 2, got 0.04"),
        ("temperature", float("inf"), "temperature must be a number, got inf"),
        ("temperature", "1", "temperature must be a number, got '1'"),
        ("gain_in", 24.5, "gain_in must be -60 to 24 dB, got 24.5"),
        ("seed", 2**63, "seed must be 0 to 9223372036854775807, got 9223372036854775808"),
        ("domain", -1, "domain must be 0 or more, got -1"),
        ("domain", 1.5, "domain must be a whole number, got 1.5"),
        ("domain", True, "domain must be a whole number, got True"),
        ("mix", None, "mix must be a number, got None"),
        ("bypass", 2, r"bypass must be 1 or 0 \(true or false\), got 2"),
        ("freeze", 0.5, r"freeze must be 1 or 0 \(true or false\), got 0.5"),
        ("freeze", "on", r"freeze must be 1 or 0 \(true or false\), got 'on'"),
        ("latent_smooth", -1, "latent_smooth must be 0 to 10 s, got -1"),
        ("latent_noise", 4.5, "latent_noise must be 0 to 4, got 4.5"),
    ],
)
def test_a_bad_value_is_refused_with_its_range(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Controls(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        Controls().replace(**{name: value})


def test_a_seed_counts_each_time_it_is_given_and_so_does_panic() -> None:
    mailbox = Mailbox()
    assert mailbox.replace(seed=5).seedings == 1
    assert mailbox.replace(seed=5).seedings == 2
    assert mailbox.replace(panic=True).panics == 1
    after = mailbox.replace(mix=0.5, panic=True)
    assert (after.seedings, after.panics, after.seed, after.mix) == (2, 2, 5, 0.5)
    with pytest.raises(ConfigError):
        mailbox.replace(mix=2.0, panic=True)
    assert mailbox.latest == after


def test_the_second_domain_of_a_blend_must_exist() -> None:
    with pytest.raises(UnknownDomain, match="no domain 3 in this bundle; choose 0 to 2"):
        Mailbox(domains=3).replace(blend_domain=3, blend=0.5)


def test_numbers_take_the_type_of_their_control() -> None:
    controls = Controls(domain=2.0, mix=1)  # type: ignore[arg-type]
    assert (controls.domain, type(controls.domain)) == (2, int)
    assert (controls.mix, type(controls.mix)) == (1.0, float)
    for on in (True, 1, 1.0):
        assert Controls(bypass=on).bypass is True  # type: ignore[arg-type]


def test_controls_are_frozen_and_replaced_whole() -> None:
    first = Controls()
    second = first.replace(mix=0.25, domain=1)
    assert (first.mix, second.mix, second.domain) == (1.0, 0.25, 1)
    with pytest.raises(FrozenInstanceError):
        first.mix = 0.5  # type: ignore[misc]


def test_an_unknown_control_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigError, match="no control 'reverb'; there are domain, mix"):
        Controls().replace(reverb=1.0)


def test_a_refused_change_changes_nothing() -> None:
    mailbox = Mailbox(Controls(mix=0.5), domains=3)
    with pytest.raises(ConfigError, match="temperature"):
        mailbox.replace(mix=0.7, temperature=9.0)
    with pytest.raises(UnknownDomain, match="no domain 3 in this bundle; choose 0 to 2"):
        mailbox.replace(domain=3)
    with pytest.raises(UnknownDomain, match="no domain 4"):
        mailbox.put(Controls(domain=4))
    assert mailbox.latest == Controls(mix=0.5)


def test_a_mailbox_starts_within_its_bundle() -> None:
    with pytest.raises(UnknownDomain, match="no domain 2"):
        Mailbox(Controls(domain=2), domains=2)


def test_writers_of_different_controls_lose_nothing() -> None:
    mailbox = Mailbox()

    def turn(name: str) -> None:
        for i in range(500):
            mailbox.replace(**{name: i / 1000})

    threads = [threading.Thread(target=turn, args=(name,)) for name in ("mix", "gain_in")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (mailbox.latest.mix, mailbox.latest.gain_in) == (0.499, 0.499)
