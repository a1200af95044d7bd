"""One side of a model as an ONNX graph: token ids in, unit vectors out, and how near it is to the model.

The graph is made by torch's own exporter. Optimum's needs an older transformers than the one that trains here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from flywheel.handover.sides import HandoverRefused, OneSide, Vectors

OUTPUT = "sentence_embedding"
TOLERANCE = 1e-4
"""How far a float32 graph's unit vector may lie from the model's: rounding of sums in another order, ten times over."""
INT8_COSINE = 0.95
"""What a vector of 8-bit weights must keep of the model's on the median probe. Below it the weights do not bear it."""
# texts of different lengths, alone and together: a graph that took a length for a constant shows here
PROBES = ("a", "reset a password", "How does one sort a list of things? " * 12, "Ünïcode – naïve café", "x y z " * 60)
_OPSET = 18


class _Forward(torch.nn.Module):
    """The side as the exporter sees it: tensors by position, one tensor back."""

    def __init__(self, side: OneSide, names: Sequence[str]) -> None:
        super().__init__()
        self._model, self._task, self._names = side.model, side.task, names
        self._dimension = side.dimension

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        out = self._model.forward(dict(zip(self._names, tensors, strict=True)), task=self._task)[OUTPUT]
        return torch.nn.functional.normalize(out[..., : self._dimension], dim=-1)


def export_graph(side: OneSide, path: Path) -> list[str]:
    """Write the graph to `path` and return the names of its inputs, each (texts, tokens) of int64.

    Raises:
        HandoverRefused: the architecture cannot be exported, or the extra is missing.
    """
    features = side.features(PROBES[:2])
    names = list(features)
    if not names or any(value.ndim != 2 for value in features.values()):
        raise HandoverRefused("its texts become no table of token ids, which is what a graph reads")
    # torch wants a dynamic size to be larger than one in the example; the graph takes one text as well
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _quietly():
            program = torch.onnx.export(
                _Forward(side, names).eval(),
                tuple(features.values()),
                dynamo=True,
                input_names=names,
                output_names=[OUTPUT],
                dynamic_shapes=(tuple(dynamic for _ in names),),
                opset_version=_OPSET,
            )
            if program is None:
                raise HandoverRefused("torch exported nothing")
            program.save(str(path))
    except ImportError as error:
        raise HandoverRefused(f"{error.name} is not installed; it comes with the extra onnx") from error
    except torch.onnx.errors.OnnxExporterError as error:
        raise HandoverRefused(f"torch cannot export this architecture to ONNX: {_first_line(error)}") from error
    return names


def quantise(path: Path, out: Path) -> None:
    """Write the graph with weights of 8 bits, and activations that are rounded as they come (dynamic quantisation)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quietly():
        quantize_dynamic(str(path), str(out), weight_type=QuantType.QInt8, per_channel=True)


def run_graph(path: Path, side: OneSide, texts: Sequence[str]) -> Vectors:
    """The graph's vectors (n, d) of these texts, by ONNX Runtime on the processor."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = [given.name for given in session.get_inputs()]
    features = side.features(texts)
    answer = session.run([OUTPUT], {name: features[name].numpy() for name in wanted})[0]
    return np.asarray(answer, np.float32)


def distance(found: Vectors, expected: Vectors) -> float:
    """The largest Euclidean distance between rows."""
    return float(np.linalg.norm(found - expected, axis=1).max())


def check_graph(path: Path, side: OneSide, *, int8: bool) -> float:
    """Hold the graph against the model, text by text and all together; returns the largest distance of unit vectors.

    Raises:
        HandoverRefused: they are further apart than `TOLERANCE`, or, with 8-bit weights, nearer than `INT8_COSINE` on
            less than half of the probes.
    """
    batches: list[Sequence[str]] = [[text] for text in PROBES]
    batches.append(PROBES)
    found, expected = [], []
    for texts in batches:
        found.append(run_graph(path, side, texts))
        expected.append(side.encode(texts))
    graph, model = np.concatenate(found), np.concatenate(expected)
    away = distance(graph, model)
    if int8:
        near = float(np.median((graph * model).sum(axis=1)))
        if near < INT8_COSINE:
            raise HandoverRefused(
                f"with weights of 8 bits its vectors keep a cosine of {near:.3f} to the model's, and {INT8_COSINE} is "
                "the least; leave out --int8"
            )
    elif not away <= TOLERANCE:
        raise HandoverRefused(f"the graph's vectors lie up to {away:.2g} from the model's, and {TOLERANCE} is allowed")
    return away


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporters print their steps; what fails is raised."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()  # the exporter colours what it says
    return (plain.splitlines() or [type(error).__name__])[0][:300]
