"""A setting is changed in place: validated first, and every other line stays as people wrote it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from flywheel.settings.edit import LIVE, set_value, shown
from flywheel.settings.home import Home
from flywheel.settings.load import FILE_NAME, ConfigError, load


@pytest.fixture
def home(tmp_path: Path) -> Path:
    Home(tmp_path).init()
    return tmp_path


def test_a_commented_default_becomes_the_value(home: Path) -> None:
    """One line of the written file changes, and the settings hold it."""
    before = (home / FILE_NAME).read_text().splitlines()
    change = set_value(home, {}, "retrain.min_new_pairs", "400")
    after = (home / FILE_NAME).read_text().splitlines()
    assert [line for line in after if line not in before] == ["min_new_pairs = 400"]
    assert len(after) == len(before)
    assert (change.before, change.after, change.live) == (200, 400, True)
    assert load(home, {}).retrain.min_new_pairs == 400


def test_what_people_wrote_stays(tmp_path: Path) -> None:
    """Comments, order and other tables of a hand-written file stay; a key without a table gets one."""
    text = (
        "# ours\n[kafka]\ngroup = 'g' # mine\n\n[retrain]\n# why 50\nmin_new_pairs = 50\n[limits]\ntrain_minutes = 5\n"
    )
    (tmp_path / FILE_NAME).write_text(text)
    set_value(tmp_path, {}, "retrain.min_new_pairs", "60")
    assert (tmp_path / FILE_NAME).read_text() == text.replace("min_new_pairs = 50", "min_new_pairs = 60")
    set_value(tmp_path, {}, "retrain.cron", "0 3 * * 1")
    set_value(tmp_path, {}, "signals.user_cap", "2.5")
    found = tomllib.loads((tmp_path / FILE_NAME).read_text())
    assert (found["retrain"]["cron"], found["signals"]["user_cap"]) == ("0 3 * * 1", 2.5)
    assert "# why 50" in (tmp_path / FILE_NAME).read_text()


@pytest.mark.parametrize(
    ("key", "value", "environ", "words"),
    [
        ("retrain.min_new_pairs", "0", {}, "greater than or equal to 1"),
        ("retrain.min_new_pair", "4", {}, "did you mean retrain.min_new_pairs"),
        ("retrian.drift", "4", {}, "did you mean retrain"),
        ("retrain", "4", {}, "retrain"),
        ("retrain.drift", "1", {"FLYWHEEL__RETRAIN__DRIFT": "2"}, "stands above the file"),
        ("retrain.cron", 'x"\n[serving]\nhost = "0.0.0.0', {}, "no crontab line"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    home: Path, key: str, value: str, environ: dict[str, str], words: str
) -> None:
    """A wrong value, an unknown key and one that the environment sets are named; the file stays to the byte."""
    before = (home / FILE_NAME).read_bytes()
    with pytest.raises(ConfigError, match=words):
        set_value(home, environ, key, value)
    assert (home / FILE_NAME).read_bytes() == before


def test_show_says_where_each_setting_comes_from(home: Path) -> None:
    """File, environment or default; a secret is only said to be set; what a daemon takes at once is marked."""
    set_value(home, {}, "retrain.drift", "0.3")
    rows = {row["key"]: row for row in shown(home, {"FLYWHEEL__SERVING__TOKEN": "geheim"})}
    assert (rows["retrain.drift"]["from"], rows["retrain.drift"]["value"]) == ("file", 0.3)
    assert (rows["serving.token"]["from"], rows["serving.token"]["value"]) == ("environment", "(set)")
    assert rows["kafka.group"]["from"] == "default"
    assert {key for key, row in rows.items() if row["live"]} == LIVE


def test_a_value_stays_a_value(home: Path) -> None:
    """Quotes, backslashes and new lines in a value are text of that key, and never further settings."""
    odd = 'a"\n[serving]\nhost = "0.0.0.0" \\ ü'
    set_value(home, {}, "kafka.group", odd)
    loaded = load(home, {})
    assert (loaded.kafka.group, loaded.serving.host) == (odd, "127.0.0.1")
