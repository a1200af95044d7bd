"""Writes a model version into a folder, in the form that a server takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.handover import graph, triton
from flywheel.handover.card import Lineage, write_card
from flywheel.handover.sides import HandoverRefused, OneSide, check_plain, save_side, sides_of
from flywheel.settings.choices import ModelForm

_TAKES_INT8 = frozenset({"onnx", "triton"})

_USE = {
    "sentence-transformers": """## Use it

```python
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("this folder")
model.encode_query(["a query"], normalize_embeddings=True)
model.encode_document(["a document"], normalize_embeddings=True)
```""",
    "onnx": """## Use it

Put the side's text before each text, make token ids with the `tokenizer.json` beside the graph, and run `model.onnx`
with ONNX Runtime. Its output `sentence_embedding` holds the unit vectors.""",
    "openvino": """## Use it

Put the side's text before each text, make token ids with the `tokenizer.json` beside the graph, and run `model.xml`
with OpenVINO. Its output `sentence_embedding` holds the unit vectors.""",
    "triton": """## Use it

Start `tritonserver --model-repository=this folder`. Make token ids with the tokenizer beside each model. A later
version exported into this folder is a further version of the same models.""",
    "tei": """## Use it

Start one `text-embeddings-router --model-id` for each folder. The text before each text is its default prompt. Its
answers are of unit length.""",
}


@dataclass(frozen=True)
class HandedOver:
    """What was written: the folder, its sides, and how far each graph's vectors lie from the model's at most."""

    folder: Path
    sides: tuple[str, ...]
    distances: dict[str, float]


def hand_over(model: Path, folder: Path, form: ModelForm, lineage: Lineage, *, int8: bool = False) -> HandedOver:
    """Write the model at `model` to the new folder `folder`; only a Triton repository may be there already.

    Whatever goes wrong leaves nothing at `folder` that was not there.

    Raises:
        HandoverRefused: the form does not bear this model, the folder is there, or the vectors differ.
    """
    if int8 and form not in _TAKES_INT8:
        raise HandoverRefused(f"weights of 8 bits are for {' and '.join(sorted(_TAKES_INT8))}; leave out --int8")
    if folder.exists() and form != "triton":
        raise HandoverRefused(f"{folder} is there already; name a new folder")
    sides = sides_of(model)
    if form != "sentence-transformers":
        for side in sides:
            check_plain(side)
    made: list[Path] = [] if folder.exists() else [folder]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        distances = _WRITERS[form](model, folder, sides, lineage, int8, made)
        write_card(folder, lineage, sides, _USE[form])
    except BaseException:
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        raise
    return HandedOver(folder, tuple(side.name for side in sides), distances)


def _library(model: Path, folder: Path, *_: Any) -> dict[str, float]:
    """The folder as it is, without what is Flywheel's own."""
    leave = shutil.ignore_patterns("flywheel.json", "README.md", "*.tmp")
    shutil.copytree(model, folder, dirs_exist_ok=True, ignore=leave)
    return {}


def _tei(_: Path, folder: Path, sides: Sequence[OneSide], *__: Any) -> dict[str, float]:
    for side in sides:
        save_side(side, _room(folder, side, sides))
    return {}


def _onnx(_: Path, folder: Path, sides: Sequence[OneSide], __: Lineage, int8: bool, *___: Any) -> dict[str, float]:
    distances = {}
    for side in sides:
        room = _room(folder, side, sides)
        distances[side.name], _names = _graph(side, room / "model.onnx", int8=int8)
        _tokenizer(side, room)
    return distances


def _openvino(_: Path, folder: Path, sides: Sequence[OneSide], *__: Any) -> dict[str, float]:
    import openvino

    distances = {}
    for side in sides:
        room = _room(folder, side, sides)
        _graph(side, room / "model.onnx", int8=False)
        converted = openvino.Core().read_model(room / "model.onnx")
        openvino.save_model(converted, room / "model.xml", compress_to_fp16=False)
        (room / "model.onnx").unlink()
        _tokenizer(side, room)
        away = _openvino_distance(room / "model.xml", side)
        if away > graph.TOLERANCE:
            raise HandoverRefused(f"OpenVINO's vectors lie up to {away:.2g} from the model's")
        distances[side.name] = away
    return distances


def _openvino_distance(path: Path, side: OneSide) -> float:
    import openvino

    # in float32 as the model: a processor with bf16 would round otherwise
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [given.get_any_name() for given in compiled.inputs]
    features = side.features(graph.PROBES)
    found = compiled({name: features[name].numpy() for name in names})[0]
    return graph.distance(found, side.encode(graph.PROBES))


def _triton(
    _: Path, folder: Path, sides: Sequence[OneSide], lineage: Lineage, int8: bool, made: list[Path]
) -> dict[str, float]:
    distances = {}
    for side in sides:
        room, name = triton.place(folder, side, lineage.version)
        made.append(room)
        distances[side.name], inputs = _graph(side, room / "model.onnx", int8=int8)
        (room.parent / "config.pbtxt").write_text(triton.configuration(name, side, inputs), "utf-8")
        _tokenizer(side, room.parent / "tokenizer")
    return distances


def _graph(side: OneSide, path: Path, *, int8: bool) -> tuple[float, list[str]]:
    whole = path.with_name("whole.onnx") if int8 else path
    names = graph.export_graph(side, whole)
    if int8:
        graph.quantise(whole, path)
        whole.unlink()
    return graph.check_graph(path, side, int8=int8), names


def _room(folder: Path, side: OneSide, sides: Sequence[OneSide]) -> Path:
    """A folder for each side, and none where there is one side."""
    room = folder if len(sides) == 1 else folder / side.name
    room.mkdir(exist_ok=True)
    return room


def _tokenizer(side: OneSide, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    side.model.tokenizer.save_pretrained(str(folder))


_Writer = Callable[[Path, Path, Sequence[OneSide], Lineage, bool, list[Path]], dict[str, float]]
_WRITERS: dict[str, _Writer] = {
    "sentence-transformers": _library,
    "tei": _tei,
    "onnx": _onnx,
    "openvino": _openvino,
    "triton": _triton,
}
