"""A base model comes from a folder, the wheel or the hub, and what cannot be served is refused by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from benchmarks import families
from flywheel.cli import main
from flywheel.retrieval.encoder import knows
from flywheel.retrieval.origin import ModelMissing, ModelRefused, examine, inspect, resolve_base_model

COMMIT = "a" * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return families.make("BERT", tmp_path_factory.mktemp("origin") / "model")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def _change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_usual_folder_passes(folder: Path) -> None:
    """Its files hold nothing that speaks against it."""
    examine(folder)
    assert resolve_base_model(str(folder)) == str(folder)


def test_pickled_weights_are_refused_with_the_cure(copy: Path) -> None:
    """A dense layer's tensors may be in torch's own format, a transformer's weights may not."""
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelRefused, match=r"copy cannot be the base model: pytorch_model.bin is a pickle; write it"):
        examine(copy)


def test_code_of_its_own_is_refused(copy: Path) -> None:
    """No module outside the library is ever run."""
    modules = json.loads((copy / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelRefused, match=r"custom_st\.Transformer needs code of its own"):
        examine(copy)


def test_another_kind_of_encoder_is_refused(copy: Path) -> None:
    """Sparse and late-interaction models are no dense vector a text."""
    _change(copy / "config_sentence_transformers.json", model_type="SparseEncoder")
    with pytest.raises(ModelRefused, match="it is a SparseEncoder"):
        examine(copy)


def test_dot_product_needs_unit_length(copy: Path) -> None:
    """With unit length it is the cosine; without it the order would be another."""
    _change(copy / "config_sentence_transformers.json", similarity_fn_name="dot")
    examine(copy)
    modules = json.loads((copy / "modules.json").read_text())
    (copy / "modules.json").write_text(json.dumps(modules[:2]))
    with pytest.raises(ModelRefused, match="it compares vectors by dot"):
        examine(copy)


def test_init_says_so_at_once(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`init` refuses a folder by name, before anything is served."""
    _change(copy / "config_sentence_transformers.json", model_type="SparseEncoder")
    monkeypatch.setenv("FLYWHEEL__TRAINER__BASE_MODEL", str(copy))
    assert main(["--home", str(tmp_path / "home"), "init"]) == 1
    assert f"{copy} cannot be the base model: it is a SparseEncoder" in capsys.readouterr().err


def test_a_folder_that_cannot_be_loaded_is_refused_with_the_reason(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`doctor` names the folder and what its library said."""
    _change(copy / "config.json", num_attention_heads=5)
    monkeypatch.setenv("FLYWHEEL__TRAINER__BASE_MODEL", str(copy))
    assert main(["--home", str(tmp_path / "home"), "init"]) == 0
    assert main(["--home", str(tmp_path / "home"), "doctor"]) == 1
    said = capsys.readouterr().err
    assert f"{copy} cannot be the base model: " in said
    assert "set trainer.base_model to another" in said


class _Hub(BaseHTTPRequestHandler):
    """What a model hub answers about one repository."""

    folder: Path

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        if path.startswith("/api/models/org/small/tree/"):
            listed = [
                {"type": "file", "path": str(file.relative_to(self.folder)), "size": file.stat().st_size, "oid": COMMIT}
                for file in files
            ]
            content = json.dumps(listed).encode()
        elif path.startswith("/api/models/org/small"):
            names = [{"rfilename": str(file.relative_to(self.folder))} for file in files]
            content = json.dumps({"id": "org/small", "sha": COMMIT, "siblings": names}).encode()
        elif path.startswith(prefix := f"/org/small/resolve/{COMMIT}/"):
            content = (self.folder / path.removeprefix(prefix)).read_bytes()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in (("Content-Length", len(content)), ("X-Repo-Commit", COMMIT), ("ETag", f'"{hash(path)}"')):
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:  # type: ignore[override]
        """Nothing: the test is quiet."""


def test_a_hub_name_is_fetched_once_and_served_from_the_home(folder: Path, tmp_path: Path) -> None:
    """As the setting's text promises: the first start copies it, later ones need no hub; pickles stay there."""
    shutil.copytree(folder, tmp_path / "hub")
    (tmp_path / "hub" / "pytorch_model.bin").write_bytes(b"never fetched")
    handler = type("Hub", (_Hub,), {"folder": tmp_path / "hub"})
    environ = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "FLYWHEEL__TRAINER__BASE_MODEL": "org/small"}
    environ.pop("HF_HUB_OFFLINE", None)

    def models(**more: str) -> subprocess.CompletedProcess[str]:
        home = [sys.executable, "-m", "flywheel.cli", "--home", str(tmp_path / "home")]
        subprocess.run([*home, "init"], env={**environ, **more}, check=True, capture_output=True)
        command = [*home, "models", "--json"]
        return subprocess.run(command, env={**environ, **more}, text=True, capture_output=True, check=False)

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        ran = models(HF_ENDPOINT=f"http://127.0.0.1:{hub.server_port}")
        hub.shutdown()
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)[0]["alias"] == "champion"
    assert not list((tmp_path / "home").rglob("*.bin"))
    assert models(HF_HUB_OFFLINE="1").returncode == 0


def test_a_name_that_no_hub_gives_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a hub the message names the setting; and an encoder alone never downloads."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelMissing, match=r"the hub did not give it: .* set trainer\.base_model to its folder"):
        resolve_base_model("org/small", download=True)
    with pytest.raises(ModelMissing, match="no SentenceTransformer folder"):
        resolve_base_model("org/small")


def test_files_alone_tell_that_a_model_cannot_be_loaded(copy: Path) -> None:
    """Weights cut short, no JSON, an unknown architecture, no weights: each is named with its file, in no time."""
    inspect(copy, knows)
    weights = next(copy.rglob("*.safetensors"))
    whole = weights.read_bytes()
    for broken, words in (
        (whole[:-9], "cut short"),
        (whole[:5], "no whole safetensors file"),
        (whole + b"x", "too long"),
    ):
        weights.unlink()
        weights.write_bytes(broken)
        with pytest.raises(ModelRefused, match=words):
            inspect(copy, knows)
    weights.unlink()
    with pytest.raises(ModelRefused, match="no weights"):
        inspect(copy, knows)
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(ModelRefused, match="cannot be read"):
        inspect(copy, knows)
    _change(copy / "config.json", model_type="frobnicator")
    with pytest.raises(ModelRefused, match="architecture 'frobnicator'"):
        inspect(copy, knows)


def test_init_finds_a_base_model_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path without a model is an error of `init`, which names the setting."""
    monkeypatch.setenv("FLYWHEEL__TRAINER__BASE_MODEL", str(tmp_path / "nowhere"))
    assert main(["--home", str(tmp_path / "home"), "init"]) == 1
    assert "trainer.base_model" in capsys.readouterr().err
