"""Settings come from one file and the environment, and what cannot be used is refused with the fix."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from flywheel import config


def test_an_empty_home_has_every_default(tmp_path: Path) -> None:
    """No file and no environment give the defaults."""
    assert config.load(tmp_path, {}) == config.Config()


def test_the_environment_goes_above_the_file(tmp_path: Path) -> None:
    """`FLYWHEEL__SECTION__KEY` wins over the file, with the type of its field."""
    (tmp_path / config.FILE_NAME).write_text("[promotion]\nalpha = 0.2\n[kafka]\ngroup = 'mine'\n")
    loaded = config.load(tmp_path, {"FLYWHEEL__PROMOTION__ALPHA": "0.01", "FLYWHEEL__TRAINER__LAYERS": "all"})
    assert (loaded.promotion.alpha, loaded.kafka.group, loaded.trainer.layers) == (0.01, "mine", "all")
    assert config.load(tmp_path, {"FLYWHEEL__TRAINER__LAYERS": "4"}).trainer.layers == 4


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[retrian]\n", "retrain"),
        ("[retrain]\nmin_new_pair = 3\n", "retrain.min_new_pairs"),
        ("alpha = 0.1\n", "promotion.alpha"),
        ("[promotion]\nalpha = 2\n", "promotion.alpha"),
        ("not toml", "TOML"),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest_valid_key(tmp_path: Path, text: str, named: str) -> None:
    """An unknown key, a value out of range and a broken file each say what to write instead."""
    (tmp_path / config.FILE_NAME).write_text(text)
    with pytest.raises(config.ConfigError, match=named):
        config.load(tmp_path, {})


def test_the_template_holds_every_key_and_says_what_the_defaults_are() -> None:
    """Uncommented, the file that `init` writes is valid and changes nothing but keys that are unset."""
    lines = config.template().splitlines()
    keys = [line[2:] if line.startswith("# ") and " = " in line else line for line in lines if "# unset" not in line]
    plain = [line for line in keys if not line.startswith("# ")]
    assert config.parse(tomllib.loads("\n".join(plain))) == config.Config()
    for name, section in config.sections():
        assert f"[{name}]" in lines
        assert all(any(line.startswith(f"# {key} = ") for line in lines) for key in section.model_fields)


@pytest.mark.parametrize("stages", [["offline", "split"], ["interleaving"], []])
def test_a_stage_that_no_cycle_runs_is_refused(stages: list[str]) -> None:
    """A gate that is asked for and would not be held is an error that names the one that works."""
    with pytest.raises(config.ConfigError, match=r"promotion\.stages") as problem:
        config.parse({"promotion": {"stages": stages}})
    assert "offline" in str(problem.value) or not stages


def test_a_wrong_secret_is_not_repeated() -> None:
    """The message names the key of a bad token or password, and not its value."""
    with pytest.raises(config.ConfigError, match=r"serving\.token") as problem:
        config.parse({"serving": {"token": 123456}})
    assert "123456" not in str(problem.value)
