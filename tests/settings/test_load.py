"""Settings come from one file and the environment, and what cannot be used is refused with the fix."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from flywheel.settings import load as config


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


@pytest.mark.parametrize(
    "stages",
    [
        ["split", "offline"],
        ["split", "split"],
        ["observe", "split"],
        ["shadow"],
        ["offline", "shadow"],
        ["holdout"],
        [],
    ],
)
def test_stages_that_make_no_way_are_refused(stages: list[str]) -> None:
    """A stage out of order, twice, or that nobody knows, and a way that ends without a decision, are errors."""
    with pytest.raises(config.ConfigError, match=r"promotion\.stages"):
        config.parse({"promotion": {"stages": stages}})


@pytest.mark.parametrize(
    "stages", [["offline"], ["split"], ["offline", "interleaving", "split"], ["shadow", "observe"]]
)
def test_stages_in_order_are_taken(stages: list[str]) -> None:
    """Any ordered part of the way that ends in a stage which decides."""
    assert config.parse({"promotion": {"stages": stages}}).promotion.stages == tuple(stages)


def test_a_ramp_rises_to_a_half_at_most() -> None:
    """Shares that fall, or would leave the champion the smaller arm, are errors."""
    for ramp in ([0.2, 0.1], [0.1, 0.6], []):
        with pytest.raises(config.ConfigError, match=r"promotion\.ramp"):
            config.parse({"promotion": {"ramp": ramp}})


def test_a_wrong_secret_is_not_repeated() -> None:
    """The message names the key of a bad token or password, and not its value."""
    with pytest.raises(config.ConfigError, match=r"serving\.token") as problem:
        config.parse({"serving": {"token": 123456}})
    assert "123456" not in str(problem.value)


@pytest.mark.parametrize(("key", "value"), [("layers", 0), ("layers", -1), ("layers", "none"), ("matryoshka", [0])])
def test_a_tower_has_layers_and_vectors_have_a_length(key: str, value: object) -> None:
    """Figures below 1 are refused when the settings are read, not when a run has been prepared."""
    with pytest.raises(config.ConfigError, match=rf"trainer\.{key}"):
        config.parse({"trainer": {key: value}})


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FLYWHEEL_SERVING_PORT": "9"}, "did you mean FLYWHEEL__SERVING__PORT, with two underscores"),
        ({"FLYWHEEL_SERVING__PORT": "9"}, "did you mean FLYWHEEL__SERVING__PORT"),
        ({"FLYWHEEL__SERVING__PORT": "many"}, "^FLYWHEEL__SERVING__PORT in the environment: serving.port"),
        ({"FLYWHEEL__KAFKA__BOOTSTRAP": "kafka"}, "kafka needs host:port, such as kafka:9092"),
        ({"FLYWHEEL__KAFKA__BOOTSTRAP": "a:1, b"}, "b needs host:port"),
        ({"FLYWHEEL__RETRAIN__CRON": "every day"}, "no crontab line"),
    ],
)
def test_what_would_have_no_effect_or_fail_later_is_refused_at_once(
    tmp_path: Path, environ: dict[str, str], words: str
) -> None:
    """One underscore, a broker without a port and a wrong cron line are named, and where each stands."""
    with pytest.raises(config.ConfigError, match=words):
        config.load(tmp_path, environ)


def test_other_variables_of_that_prefix_are_left_alone(tmp_path: Path) -> None:
    """FLYWHEEL_HOME, FLYWHEEL_DEBUG and what tests use are no settings."""
    others = {"FLYWHEEL_HOME": "x", "FLYWHEEL_DEBUG": "1", "FLYWHEEL_TEST_SOAK": "1"}
    assert config.load(tmp_path, others) == config.Config()


def test_an_error_in_the_file_and_one_in_the_environment_are_told_apart(tmp_path: Path) -> None:
    """Each is said with where it stands."""
    (tmp_path / config.FILE_NAME).write_text("[promotion]\nalpha = 2\n")
    with pytest.raises(config.ConfigError) as refused:
        config.load(tmp_path, {"FLYWHEEL__SERVING__PORT": "-1"})
    assert "flywheel.toml: promotion.alpha" in str(refused.value)
    assert "FLYWHEEL__SERVING__PORT in the environment: serving.port" in str(refused.value)


def test_a_client_certificate_reaches_every_kafka_client(tmp_path: Path) -> None:
    """Certificate, key and the key's password are settings, and are left out without TLS."""
    (tmp_path / config.FILE_NAME).write_text(
        '[kafka]\nsecurity_protocol = "SSL"\nssl_cafile = "ca.pem"\nssl_certfile = "client.pem"\n'
        'ssl_keyfile = "client.key"\n'
    )
    kafka = config.load(tmp_path, {"FLYWHEEL__KAFKA__SSL_PASSWORD": "p"}).kafka
    files = {"ssl_cafile": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key", "ssl_password": "p"}
    assert files.items() <= kafka.client_settings().items()
    plain = config.load(tmp_path, {"FLYWHEEL__KAFKA__SECURITY_PROTOCOL": "PLAINTEXT"}).kafka
    assert not files.keys() & plain.client_settings().keys()


def test_the_environment_may_hold_a_table() -> None:
    """A map of names is read as TOML writes it inline; a text stays a text, whatever it looks like."""
    names = '{"item_click" = "click"}'
    loaded = config.load(Path("nowhere"), {"FLYWHEEL__SIGNALS__ACTION_NAMES": names, "FLYWHEEL__SERVING__TOKEN": names})
    assert loaded.signals.action_names == {"item_click": "click"}
    assert loaded.serving.token == names
