"""``umt eval lineup``: lineups, their page in a browser, and the score of answers."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("librosa")
pytest.importorskip("torch")

from bridge.lineup_page import answers_text, key_text, page_of, read_answers, read_key
from evaluation.lineup import Clip, Key, Lineup, make_lineups, score
from evaluation.listener import Listener
from evaluation.translation import Segment
from model.bundle import Bundle, random_bundle
from model.config import SAMPLE_RATE
from model.errors import DataError
from realtime.backends import open_backend
from tests.command_line import umt
from tests.prepared import prepared
from tests.synthetic import tones

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
KEY = Key(
    "p1",
    {str(n): "ab"[n % 2] for n in range(1, 41)},
    {str(n): {"A": "a", "B": "b"} for n in range(1, 41)},
)
RIGHT = {name: source.upper() for name, source in KEY.sources.items()}


def lineup_of(name: str, source: str, players: Sequence[str]) -> Lineup:
    """Half a second of a tone for each letter of ``players``, the domain's own."""
    clips = tuple(
        Clip("ABCD"[at], domain, tones(at, 0.5, int(name))) for at, domain in enumerate(players)
    )
    return Lineup(name, source, clips, tones(9, 0.5, int(name)))


def test_every_domain_plays_every_lineup_in_an_order_of_its_own(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = {"a": 0.1, "b": 0.2, "c": 0.3}
    monkeypatch.setattr(
        "evaluation.lineup.translate",
        lambda _b, _e, audio, target, _s: np.full_like(audio, levels[target]),
    )
    segments = [Segment("abc"[n % 3], np.zeros(80, np.float32), {}) for n in range(30)]
    backend = open_backend("numba-int8", tiny_bundle)
    made = make_lineups(tiny_bundle, backend, segments, 24, seed=0)
    assert [one.name for one in made] == [str(n) for n in range(1, 25)]
    for one in made:
        assert [clip.name for clip in one.clips] == ["A", "B", "C"]
        assert {clip.domain: float(clip.audio[0]) for clip in one.clips} == pytest.approx(levels)
        assert next(c.domain for c in one.clips if c.name == one.right) == one.source
        assert not one.unworn.clips["ABC".index(one.right)].audio.any()
    assert {one.right for one in made} == {"A", "B", "C"}
    assert {one.source for one in made} == {"a", "b", "c"}
    again = make_lineups(tiny_bundle, backend, segments, 24, seed=0)
    assert [one.right for one in again] == [one.right for one in made]
    other = make_lineups(tiny_bundle, backend, segments, 24, seed=1)
    assert [one.right for one in other] != [one.right for one in made]
    with pytest.raises(DataError, match="31 lineups need as many segments, got 30"):
        make_lineups(tiny_bundle, backend, segments, 31, seed=0)


def test_one_domain_makes_no_lineup() -> None:
    bundle = random_bundle("tiny", ("lone",), seed=0)
    with pytest.raises(DataError, match="two domains or more, this bundle has lone alone"):
        make_lineups(bundle, open_backend("numba-int8", bundle), [], 1, seed=0)


def test_a_perfect_listener_and_one_who_is_always_wrong() -> None:
    best = score(RIGHT, KEY)
    assert (best.right, best.answered, best.accuracy, best.chance) == (40, 40, 1.0, 0.5)
    assert best.p_value == pytest.approx(2.0**-40)
    # Wilson's interval of 40 of 40: n / (n + z squared) and 1.
    assert best.interval == pytest.approx((40 / (40 + 1.959964**2), 1.0))
    assert best.chosen == {"a": {"a": 20}, "b": {"b": 20}}
    wrong = score({name: "AB"["BA".index(clip)] for name, clip in RIGHT.items()}, KEY)
    assert (wrong.accuracy, wrong.p_value) == (0.0, 1.0)
    assert wrong.chosen == {"a": {"b": 20}, "b": {"a": 20}}


def test_one_who_always_hears_the_same_domain_is_at_chance() -> None:
    result = score(dict.fromkeys(KEY.sources, "A"), KEY)
    assert result.accuracy == result.chance == 0.5
    low, high = result.interval
    assert low == pytest.approx(0.3520, abs=1e-3)
    assert high == pytest.approx(1 - low)
    assert result.chosen == {"a": {"a": 20}, "b": {"a": 20}}


def test_lineups_may_be_left_out_but_not_made_up() -> None:
    result = score({"1": RIGHT["1"]}, KEY)
    assert (result.answered, result.unanswered, result.right) == (1, 39, 1)
    with pytest.raises(DataError, match="no clip 'C' in lineup '1'"):
        score({"1": "C"}, KEY)
    with pytest.raises(DataError, match="no clip 'A' in lineup '99'"):
        score({"99": "A"}, KEY)
    with pytest.raises(DataError, match="no lineup was answered"):
        score({}, KEY)


def test_the_page_holds_every_sound_and_no_domain() -> None:
    lineups = [
        lineup_of("1", "strings", ("strings", "organ")),
        lineup_of("2", "organ", ("organ", "strings")),
    ]
    text, name = page_of(lineups)
    assert f'data-page="{name}"' in text
    rest = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"strings|organ|https?:|src=\"(?!data:)|@", rest.replace("@media", ""))
    found = re.findall(r"data:audio/flac;base64,([A-Za-z0-9+/=]+)", text)
    assert len(found) == 4
    sound, rate = soundfile.read(io.BytesIO(base64.b64decode(found[1])), dtype="float32")
    assert rate == SAMPLE_RATE
    np.testing.assert_allclose(sound, lineups[0].clips[1].audio, atol=2**-15)
    assert page_of(lineups[:1])[1] != name


# Marks a clip in each lineup as a mouse would, and leaves what is downloaded in the document.
DRIVE = """
<script>
(async () => {
  const report = {};
  const sounds = [...document.querySelectorAll("audio")];
  await Promise.all(sounds.map((audio) => audio.readyState ? null
    : new Promise((done) => audio.addEventListener("loadedmetadata", done))));
  report.seconds = sounds.map((audio) => audio.duration);
  report.buttons = [...document.querySelectorAll(".clip button")].map((one) => one.textContent);
  report.before = document.getElementById("progress").textContent;
  document.querySelector("[name=lineup-1][value=A]").click();
  document.querySelector("[name=lineup-1][value=B]").click();
  report.after = document.getElementById("progress").textContent;
  document.getElementById("listener").value = ' Zo\\u00eb "x" ';
  let kept = null;
  URL.createObjectURL = (blob) => { kept = blob; return "data:,"; };
  HTMLAnchorElement.prototype.click = function () { report.file = this.download; };
  document.getElementById("download").click();
  report.answers = JSON.parse(await kept.text());
  document.title = "DONE" + JSON.stringify(report) + "DONE";
})();
</script>
</body>"""


@pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome")
def test_a_browser_plays_the_page_and_gives_the_answers(tmp_path: Path) -> None:
    lineups = [lineup_of("1", "a", "ab"), lineup_of("2", "b", "ab")]
    text, name = page_of(lineups)
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", DRIVE), encoding="utf-8")
    shown = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}", "--timeout=20000",
            "--virtual-time-budget=10000", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    told = re.search(r"<title>DONE(.*)DONE</title>", shown)
    assert told is not None, shown[-2000:]
    report = json.loads(told[1].replace("&amp;", "&"))
    assert report["seconds"] == pytest.approx([0.5] * 4)
    assert report["buttons"] == ["Play A", "Play B", "Play A", "Play B"]
    assert (report["before"], report["after"]) == ("0 of 2 answered", "1 of 2 answered")
    assert report["file"] == "answers.json"
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(report["answers"]), encoding="utf-8")
    assert read_answers(answers, name) == ({"1": "B"}, 'Zoë "x"')


def test_keys_and_answers_survive_their_files_and_others_do_not(tmp_path: Path) -> None:
    key, answers = tmp_path / "key.json", tmp_path / "answers.json"
    key.write_text(key_text(KEY))
    answers.write_text(answers_text("p1", "me", RIGHT))
    assert read_key(key) == KEY
    assert read_answers(answers, "p1") == (RIGHT, "me")
    with pytest.raises(DataError, match="answers page 'p1', the key is of 'p2'"):
        read_answers(answers, "p2")
    with pytest.raises(DataError, match=r"answers.json is not a key"):
        read_key(answers)
    with pytest.raises(DataError, match=r"key.json holds no answers"):
        read_answers(key, "p1")
    for damaged, words in (("{", "is not JSON"), ("[1]", "is not a key"), ("{}", "is not a key")):
        key.write_text(damaged)
        with pytest.raises(DataError, match=words):
            read_key(key)
    with pytest.raises(DataError, match="cannot read .*none.json: No such file"):
        read_key(tmp_path / "none.json")


def test_the_machine_marks_what_sounds_like_real_music() -> None:
    training = {name: [tones(n, 11.0, seed) for seed in (0, 1)] for n, name in enumerate("ab")}
    machine = Listener(training)
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * SAMPLE_RATE).astype(np.float32)
    music = tones(1, 5.0, 7)
    assert machine.strangeness(music) < machine.strangeness(noise) / 3
    # Of the level it takes no notice.
    assert machine.strangeness(0.5 * music) == pytest.approx(machine.strangeness(music), rel=0.5)
    first = Lineup("1", "a", (Clip("A", "a", noise), Clip("B", "b", music)), music)
    second = Lineup("2", "b", (Clip("A", "b", music), Clip("B", "a", noise)), music)
    assert machine.answers([first, second]) == {"1": "B", "2": "A"}
    with pytest.raises(DataError, match="two stretches of 5 s .* of a or more, got 1"):
        Listener({"a": [tones(0, 5.0, 0), tones(0, 4.9, 1)]})


def test_the_command_makes_a_page_and_scores_its_answers(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    given = prepared(tiny_bundle, tmp_path, seconds=6.0, takes=3)
    out = tmp_path / "out"
    said = umt("eval", "lineup", *given, "--lineups", 4, "--out", out)
    assert said.status == 0, said.err
    assert said.out.count(" of 4 right") == 2
    assert sorted(path.name for path in out.iterdir()) == [
        "key.json", "lineup.html", "listener.json",
    ]  # fmt: skip
    key = json.loads((out / "key.json").read_text())
    assert key["page"] in (out / "lineup.html").read_text()
    right = {
        name: next(clip for clip, player in clips.items() if player == key["sources"][name])
        for name, clips in key["players"].items()
    }
    answers, report, picture = tmp_path / "answers.json", tmp_path / "s.json", tmp_path / "s.png"
    del right["4"]
    answers.write_text(answers_text(key["page"], "me", right))
    scored = umt(
        "eval", "lineup", "--score", answers, "--key", out / "key.json", "--json", report,
        "--plot", picture,
    )  # fmt: skip
    assert scored.status == 0, scored.err
    assert "3 of 3 right: 100% (95 % between 44% and 100%), chance 33%" in scored.out
    assert "1 unanswered" in scored.out
    stored = json.loads(report.read_text())
    assert (stored["listener"], stored["accuracy"], stored["right"]) == ("me", 1.0, 3)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (
        umt("eval", "lineup", "--score", out / "listener.json", "--key", out / "key.json").status
        == 0
    )


def test_a_command_line_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    for arguments in (["--score", "answers.json"], ["--key", "key.json"]):
        said = umt("eval", "lineup", *arguments)
        assert said.status == 2
        assert "--score and --key go together" in said.complaint
    assert umt("eval", "lineup", "--json", tmp_path / "s.json").status == 2
