"""A larger model that scores how well a document answers a query: a cross-encoder or a bi-encoder in a local folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]


class Teacher:
    """Scores pairs of texts. Cross-encoders give logits; a bi-encoder's cosines are multiplied by `scale`."""

    def __init__(self, folder: str, *, scale: float, device: str) -> None:
        """Load the model of `folder`; it is never downloaded.

        Raises:
            ValueError: no model in that folder.
        """
        from sentence_transformers import CrossEncoder, SentenceTransformer

        self._scale = scale
        self._model: Any = None
        if not (Path(folder) / "config.json").is_file() and not (Path(folder) / "modules.json").is_file():
            raise ValueError(f"trainer.teacher: {folder!r} is no folder of a model; download it first")
        self.crosses = _crosses(Path(folder))
        kind = CrossEncoder if self.crosses else SentenceTransformer
        self._model = kind(folder, device=device, local_files_only=True)

    def score(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        """(n,) scores of (query, document) pairs; the greater, the better the answer."""
        if self.crosses:
            from torch.nn import Identity

            logits = self._model.predict(list(pairs), activation_fn=Identity(), show_progress_bar=False)
            if np.ndim(logits) != 1:
                raise ValueError(f"trainer.teacher gives {np.shape(logits)[1]} scores for a pair; one is needed")
            return np.asarray(logits, np.float32)
        queries, documents = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
        left = dict(zip(queries, self._model.encode_query(queries, normalize_embeddings=True), strict=True))
        right = dict(zip(documents, self._model.encode_document(documents, normalize_embeddings=True), strict=True))
        return np.array([self._scale * (left[query] @ right[text]) for query, text in pairs], np.float32)


def _crosses(folder: Path) -> bool:
    settings = folder / "config_sentence_transformers.json"
    kind = json.loads(settings.read_text("utf-8")).get("model_type") if settings.is_file() else None
    if kind is not None:
        return bool(kind == "CrossEncoder")
    return not (folder / "modules.json").is_file()
