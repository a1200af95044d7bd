"""Each form of a model is loaded by its own runtime, or read by its own schema, and answers as the model does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from sentence_transformers import SentenceTransformer
from tritonclient.grpc import model_config_pb2

from benchmarks.families import FOLDERS, make
from flywheel.handover.card import Lineage, licence_of
from flywheel.handover.folders import HandedOver, hand_over
from flywheel.handover.graph import PROBES, TOLERANCE, check_graph, distance, quantise, run_graph
from flywheel.handover.sides import HandoverRefused, OneSide, save_side, sides_of
from flywheel.settings.choices import ModelForm

LINEAGE = Lineage(
    "v3",
    {"parent": "v2", "tier": "query_tower", "snapshot_id": "s-1", "seed": 7, "base_model": "/models/base"},
    ({"verdict": "promote", "reasons": ["recall@10 +3.1 points"]},),
    "apache-2.0",
)
REFUSED = frozenset({"T5", "prompt left out of pooling"})
"""Families whose graph would answer otherwise, or that torch's exporter does not bear."""
Model = Callable[[str], Path]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small model with random weights, by the name of its family."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            made[name] = make(name, tmp_path_factory.mktemp("models") / name.replace(" ", "-"))
        return made[name]

    return of


@pytest.fixture(scope="session")
def whole(model: Model, tmp_path_factory: pytest.TempPathFactory) -> HandedOver:
    """The two towers as ONNX; what the exporter takes is most of the time of these tests."""
    return hand_over(model("two towers (Router)"), tmp_path_factory.mktemp("whole") / "out", "onnx", LINEAGE)


def _as_the_library(written: HandedOver, folder: Path) -> None:
    library = SentenceTransformer(str(folder), device="cpu")
    for side in sides_of(folder):
        room = written.folder / side.name if len(written.sides) == 2 else written.folder
        encode = library.encode_query if side.task == "query" else library.encode_document
        expected = encode(list(PROBES), normalize_embeddings=True)
        assert distance(run_graph(room / "model.onnx", side, PROBES), np.asarray(expected)) <= TOLERANCE
        assert (room / "tokenizer.json").exists()
    assert set(written.distances) == set(written.sides)


def test_onnx_runtime_answers_as_the_model_does(whole: HandedOver, model: Model) -> None:
    """One text or many, short or long: the graph's unit vectors are the library's within the tolerance."""
    _as_the_library(whole, model("two towers (Router)"))


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(set(FOLDERS) - {"static embeddings", "two towers (Router)"}))
def test_every_family_is_a_right_graph_or_refused(model: Model, tmp_path: Path, family: str) -> None:
    """No graph is written that answers differently from the model, whatever the architecture."""
    try:
        written = hand_over(model(family), tmp_path / "out", "onnx", LINEAGE)
    except HandoverRefused:
        assert not (tmp_path / "out").exists()
        assert family in REFUSED
    else:
        _as_the_library(written, model(family))
        assert family not in REFUSED


def test_openvino_answers_as_the_model_does(model: Model, tmp_path: Path) -> None:
    """OpenVINO's own runtime loads the folder and gives the library's vectors within the tolerance."""
    import openvino

    written = hand_over(model("BERT"), tmp_path / "out", "openvino", LINEAGE)
    compiled = openvino.Core().compile_model(written.folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    side = sides_of(model("BERT"))[0]
    features = side.features(["one text"])
    given = {name: features[name].numpy() for name in (port.get_any_name() for port in compiled.inputs)}
    expected = SentenceTransformer(str(model("BERT")), device="cpu").encode(["one text"], normalize_embeddings=True)
    assert distance(np.asarray(compiled(given)[0]), np.asarray(expected)) <= TOLERANCE


def test_triton_s_own_schema_reads_its_configuration(model: Model, tmp_path: Path) -> None:
    """Names, types and shapes are those of the graph, and requests are batched.

    A later version joins the first; the same one is refused, and the first stays whole.
    """
    import onnxruntime

    for version in ("v3", "v4"):
        hand_over(model("BERT"), tmp_path / "out", "triton", Lineage(version, {}))
    folder = tmp_path / "out" / "flywheel_model"
    told = text_format.Parse((folder / "config.pbtxt").read_text("utf-8"), model_config_pb2.ModelConfig())
    session = onnxruntime.InferenceSession(str(folder / "4" / "model.onnx"))
    assert {given.name for given in told.input} == {given.name for given in session.get_inputs()}
    assert all(given.data_type == model_config_pb2.TYPE_INT64 and list(given.dims) == [-1] for given in told.input)
    assert list(told.output[0].dims) == session.get_outputs()[0].shape[1:]
    assert told.HasField("dynamic_batching")
    assert told.version_policy.latest.num_versions == 2
    assert sorted(path.name for path in folder.iterdir()) == ["4", "5", "config.pbtxt", "tokenizer"]
    before = (folder / "4" / "model.onnx").read_bytes()
    with pytest.raises(HandoverRefused, match="there already"):
        hand_over(model("BERT"), tmp_path / "out", "triton", Lineage("v3", {}))
    assert (folder / "4" / "model.onnx").read_bytes() == before


@pytest.mark.parametrize("family", ["two towers (Router)", "a dense layer, no unit length", "E5's prompts, 64 tokens"])
def test_tei_s_folders_are_plain_and_whole(model: Model, tmp_path: Path, family: str) -> None:
    """Each side is a folder that the library loads as it is, with modules and pooling by the names that TEI reads."""
    written = hand_over(model(family), tmp_path / "out", "tei", LINEAGE)
    for side in sides_of(model(family)):
        folder = written.folder / side.name if len(written.sides) == 2 else written.folder
        rows = json.loads((folder / "modules.json").read_text("utf-8"))
        assert {row["type"].rsplit(".", 1)[0] for row in rows} == {"sentence_transformers.models"}
        pooling = json.loads(
            (folder / next(row["path"] for row in rows if "Pooling" in row["type"]) / "config.json").read_text()
        )
        assert pooling["pooling_mode_mean_tokens"] is True
        assert pooling["word_embedding_dimension"] == 32
        alone = SentenceTransformer(str(folder), device="cpu")
        found = alone.encode([side.prompt + text for text in PROBES], prompt="", normalize_embeddings=True)
        assert distance(np.asarray(found), side.encode(PROBES)) <= TOLERANCE
        assert {path.name for path in folder.glob("*.json")} >= {"config.json", "tokenizer.json", "modules.json"}


def test_the_library_s_folder_is_the_model_with_a_card(model: Model, tmp_path: Path) -> None:
    """The card names lineage, data, verdict and licence, and the vectors are the same to the bit."""
    written = hand_over(model("two towers (Router)"), tmp_path / "out", "sentence-transformers", LINEAGE)
    card = (written.folder / "README.md").read_text("utf-8")
    for said in (
        "license: apache-2.0",
        "| parent | v2 |",
        "| data snapshot | s-1 |",
        "**promote**: recall@10 +3.1 points",
    ):
        assert said in card
    assert json.loads((written.folder / "lineage.json").read_text("utf-8"))["base_model"] == "base"
    ours, theirs = (
        SentenceTransformer(str(folder), device="cpu").encode_query(["a query"])
        for folder in (written.folder, model("two towers (Router)"))
    )
    assert np.array_equal(ours, theirs)


def test_eight_bits_are_refused_where_the_weights_do_not_bear_them(
    whole: HandedOver, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph of 8 bits is smaller and near the model; one that is not near enough is refused."""
    side = sides_of(model("two towers (Router)"))[0]
    exact, small = whole.folder / "query" / "model.onnx", tmp_path / "small.onnx"
    quantise(exact, small)
    assert small.stat().st_size < 0.5 * exact.stat().st_size
    check_graph(small, side, int8=True)
    monkeypatch.setattr("flywheel.handover.graph.INT8_COSINE", 1.1)
    with pytest.raises(HandoverRefused, match="leave out --int8"):
        check_graph(small, side, int8=True)
    with pytest.raises(HandoverRefused, match="lie up to"):
        check_graph(small, side, int8=False)


@pytest.mark.parametrize(
    ("family", "form", "int8", "said"),
    [
        ("static embeddings", "onnx", False, "no table of token ids"),
        ("static embeddings", "tei", False, "known to the library alone"),
        ("BERT", "tei", True, "leave out --int8"),
    ],
)
def test_what_a_form_does_not_bear_is_refused(
    model: Model, tmp_path: Path, family: str, form: ModelForm, int8: bool, said: str
) -> None:
    """The refusal says why, and nothing is left behind."""
    with pytest.raises(HandoverRefused, match=said):
        hand_over(model(family), tmp_path / "out", form, LINEAGE, int8=int8)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else_s_is_left_alone(model: Model, tmp_path: Path) -> None:
    """What is there stays as it is."""
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(HandoverRefused, match="name a new folder"):
        hand_over(model("BERT"), tmp_path, "onnx", LINEAGE)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_side_of_an_unknown_pooling_is_refused(model: Model, tmp_path: Path) -> None:
    """A pooling that only the newest library knows is named, not written as another one."""
    side = sides_of(model("BERT"))[0]
    pooling = side.model[1]
    told = pooling.get_config_dict() | {"pooling_mode": "a new one"}
    pooling.get_config_dict = lambda: told
    with pytest.raises(HandoverRefused, match="a new one"):
        save_side(OneSide(side.name, side.task, side.model, side.prompt, side.limit), tmp_path / "out")


def test_the_base_model_s_licence_is_read_from_its_card(tmp_path: Path) -> None:
    """What the card says counts; without one it is unknown, and never guessed."""
    assert licence_of(tmp_path) == "unknown"
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# A model\nlicense: other\n")
    assert licence_of(tmp_path) == "mit"
