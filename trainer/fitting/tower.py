"""One side of a model as something to train: texts are tokenised once, frozen layers run once, the rest in each step.

BERT encoders have a path of their own, several times as fast on a CPU: no padding outside attention, and plain matrix
products inside it. Any other architecture runs as the library runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Rows = npt.NDArray[np.int64]
Layers = int | Literal["all"]
BLOCK = 256  # texts that pass the frozen layers together; fixed, so that a resumed run computes the same bits
TOKENS, LENGTHS = 512, 16  # the tokens of a batch, and of its longest text, are filled up to a multiple of these
FRUGAL = 4e9  # bytes that a pass may keep for its gradients; beyond, a layer keeps only its input


class Tower(Protocol):
    """What a tier trains."""

    def read(self, texts: Sequence[str]) -> None:
        """Take the texts that later rows refer to."""

    def forward(self, rows: Rows) -> torch.Tensor:
        """Unit vectors (n, d) of these texts, with gradients."""

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that train, by name."""


def tower_of(
    modules: Sequence[Any],
    *,
    layers: Layers,
    bf16: bool,
    device: str,
    prompt: str = "",
    dropout: bool = False,
    dimension: int | None = None,
) -> Tower:
    """The fastest tower with the results of these modules (one route of a model) for `prompt` and a text; of each
    vector the first `dimension` numbers, where that is given.

    `dropout`: passes with gradients drop activations at the model's own rates (Srivastava et al., JMLR 2014), drawn by
    torch's global generator. Passes without gradients drop nothing.
    """
    first, pooling = modules[0], modules[1] if len(modules) > 1 else None
    plain = type(getattr(first, "model", None)).__name__ == "BertModel"
    pools_all = getattr(pooling, "include_prompt", True) or not prompt
    fast = plain and pools_all and getattr(pooling, "pooling_mode", None) in ("mean", "cls")
    kind = BertTower if fast else LibraryTower
    tower = kind(modules, layers=layers, bf16=bf16, device=device, prompt=prompt, dropout=dropout)
    return tower if dimension is None else CutTower(tower, dimension)


def vectors(tower: Tower, rows: Rows) -> npt.NDArray[np.float32]:
    """Vectors (n, d) of these texts as the tower stands, without gradients."""
    with torch.no_grad():
        blocks = [tower.forward(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
    return torch.cat(blocks).float().cpu().numpy() if blocks else np.empty((0, 0), np.float32)


class CutTower:
    """The first numbers of another tower's vectors, at unit length: what a model with `truncate_dim` serves."""

    def __init__(self, tower: Tower, dimension: int) -> None:
        self._tower, self._dimension = tower, dimension
        self.read, self.parameters = tower.read, tower.parameters

    def forward(self, rows: Rows) -> torch.Tensor:
        """See `Tower`."""
        return functional.normalize(self._tower.forward(rows)[:, : self._dimension], dim=-1)


class LibraryTower:
    """Any architecture, run by the library. Frozen layers run in every step, without gradients."""

    def __init__(
        self,
        modules: Sequence[Any],
        *,
        layers: Layers,
        bf16: bool,
        device: str,
        prompt: str = "",
        dropout: bool = False,
    ) -> None:
        self._modules, self._bf16, self._device = list(modules), bf16, device
        self._prompt, self._dropout = prompt or None, dropout
        self._texts: Sequence[str] = ()
        self._trained = trainable(modules[0].model if hasattr(modules[0], "model") else modules[0], layers)

    def read(self, texts: Sequence[str]) -> None:
        """See `Tower`."""
        self._texts = texts

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """See `Tower`."""
        return self._trained

    def forward(self, rows: Rows) -> torch.Tensor:
        """See `Tower`."""
        features = self._modules[0].preprocess([self._texts[row] for row in rows], prompt=self._prompt)
        features = {key: value.to(self._device) if hasattr(value, "to") else value for key, value in features.items()}
        for module in self._modules:
            module.train(self._dropout and torch.is_grad_enabled())
        with _precision(self._device, self._bf16):
            for module in self._modules:
                features = module(features)
        return functional.normalize(features["sentence_embedding"].float(), dim=-1)


class BertTower:
    """A BERT encoder with mean or CLS pooling: tokens of all texts in one row, frozen layers computed once."""

    def __init__(
        self,
        modules: Sequence[Any],
        *,
        layers: Layers,
        bf16: bool,
        device: str,
        prompt: str = "",
        dropout: bool = False,
    ) -> None:
        self._prompt = prompt
        self._transformer, pooling, *self._tail = modules
        self._cls = pooling.pooling_mode == "cls"
        self._bf16, self._device = bf16, device
        self._bert = self._transformer.model
        self._trained = trainable(self._bert, layers)
        blocks = list(self._bert.encoder.layer)
        self._split = 0 if layers == "all" else max(0, len(blocks) - layers)
        self._lower, self._upper = blocks[: self._split], blocks[self._split :]
        config = self._bert.config
        self._heads = int(config.num_attention_heads)
        self._rates = (config.hidden_dropout_prob, config.attention_probs_dropout_prob) if dropout else (0.0, 0.0)
        self._tokens: list[npt.NDArray[np.int64]] = []
        self._hidden: list[torch.Tensor] = []

    def read(self, texts: Sequence[str]) -> None:
        """See `Tower`. Runs the frozen layers over all of them."""
        tokenizer, limit = self._transformer.tokenizer, self._transformer.max_seq_length
        asked = [self._prompt + text for text in texts]
        encoded = tokenizer(asked, truncation=True, max_length=limit)["input_ids"] if asked else []
        self._tokens = [np.asarray(ids, np.int64) for ids in encoded]
        self._hidden = []
        if not self._lower:
            return
        order = np.argsort([len(ids) for ids in self._tokens], kind="stable")
        hidden: dict[int, torch.Tensor] = {}
        with torch.no_grad(), _precision(self._device, self._bf16):
            for start in range(0, len(order), BLOCK):
                rows = order[start : start + BLOCK]
                layout = _Layout([len(self._tokens[row]) for row in rows], self._device)
                state = layout.fill(self._embed(rows))
                for layer in self._lower:
                    state = self._layer(layer, state, layout)
                kept = state.to(torch.bfloat16 if self._bf16 else torch.float32)
                hidden.update(zip(rows.tolist(), torch.split(kept[: layout.tokens], layout.lengths), strict=True))
        # copied: slices would keep whole blocks in memory, and scattered, while a step gathers single rows
        self._hidden = [hidden[row].clone() for row in range(len(self._tokens))]

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """See `Tower`."""
        return self._trained

    def forward(self, rows: Rows) -> torch.Tensor:
        """See `Tower`."""
        layout = _Layout([len(self._tokens[row]) for row in rows], self._device)
        with _precision(self._device, self._bf16):
            state = torch.cat([self._hidden[row] for row in rows]).float() if self._lower else self._embed(rows)
            state = layout.fill(state)
            frugal = torch.is_grad_enabled() and self._kept(state, layout) > FRUGAL
            for layer in self._upper:
                state = self._again(layer, state, layout) if frugal else self._layer(layer, state, layout)
        features = {"sentence_embedding": layout.first(state) if self._cls else layout.mean(state)}
        for module in self._tail:
            features = module(features)
        return functional.normalize(features["sentence_embedding"], dim=-1)

    def _kept(self, state: torch.Tensor, layout: _Layout) -> int:
        """About how many bytes a pass keeps for gradients, as measured with documents of 128 and 256 tokens."""
        attention = len(layout.lengths) * self._heads * layout.longest**2
        return 4 * len(self._upper) * (17 * state.numel() + 3 * attention)

    def _again(self, layer: Any, state: torch.Tensor, layout: _Layout) -> torch.Tensor:
        """The layer's output. It keeps only its input, and is computed once more, to the same bits, for its gradients.

        Source: Chen et al., Training deep nets with sublinear memory cost, 2016.
        """
        output: torch.Tensor = checkpoint(self._layer, layer, state, layout, use_reentrant=False)
        return output

    def _embed(self, rows: Rows) -> torch.Tensor:
        table = self._bert.embeddings
        tokens = torch.from_numpy(np.concatenate([self._tokens[row] for row in rows])).to(self._device)
        position = np.concatenate([np.arange(len(self._tokens[row])) for row in rows])
        summed = (
            table.word_embeddings(tokens)
            + table.position_embeddings(torch.from_numpy(position).to(self._device))
            + table.token_type_embeddings.weight[0]
        )
        return self._drop(table.LayerNorm(summed))

    def _layer(self, layer: Any, state: torch.Tensor, layout: _Layout) -> torch.Tensor:
        attention, own = layer.attention, layer.attention.self
        weight = torch.cat([weight_of(own.query), weight_of(own.key), weight_of(own.value)])
        bias = torch.cat([own.query.bias, own.key.bias, own.value.bias])
        joint = layout.pad(functional.linear(state, weight, bias))
        count, length, width = len(layout.lengths), layout.longest, state.shape[1] // self._heads
        query, key, value = joint.view(count, length, 3, self._heads, width).permute(2, 0, 3, 1, 4)
        scores = (query * width**-0.5) @ key.transpose(-1, -2) + layout.bias
        shares = self._drop(scores.softmax(dim=-1), attention=True)
        mixed = (shares.to(value.dtype) @ value).transpose(1, 2)
        mixed = layout.unpad(mixed.reshape(count * length, -1))
        state = attention.output.LayerNorm(self._drop(attention.output.dense(mixed)) + state)
        inner = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(state))
        normed: torch.Tensor = layer.output.LayerNorm(self._drop(layer.output.dense(inner)) + state)
        return normed

    def _drop(self, state: torch.Tensor, *, attention: bool = False) -> torch.Tensor:
        rate = self._rates[attention]
        return functional.dropout(state, rate) if rate and torch.is_grad_enabled() else state


class _Layout:
    """Where the tokens of a batch lie: one after the other outside attention, padded inside it.

    Empty rows fill both up to a few sizes. The CPU's matrix library compiles and keeps programs for every new size, so
    memory would otherwise grow with the steps of a run.
    """

    def __init__(self, lengths: list[int], device: str) -> None:
        self.lengths, self.longest = lengths, -(-max(lengths) // LENGTHS) * LENGTHS
        size = np.asarray(lengths)
        self.tokens = int(size.sum())
        owner = np.repeat(np.arange(len(size)), size)
        self._starts = np.r_[0, np.cumsum(size)[:-1]]
        place = np.arange(size.sum()) - self._starts[owner]
        self._at = torch.from_numpy(owner * self.longest + place).to(device)
        empty = np.arange(self.longest)[None] >= size[:, None]
        self.bias = torch.from_numpy(np.where(empty, np.float32(-1e30), np.float32(0)))[:, None, None].to(device)
        self._size = torch.from_numpy(size).to(device)

    def pad(self, state: torch.Tensor) -> torch.Tensor:
        """(tokens, d) to (texts · longest, d), zeros where there is no token."""
        padded: torch.Tensor = _Pad.apply(state[: self.tokens], self._at, len(self.lengths) * self.longest)
        return padded

    def unpad(self, state: torch.Tensor) -> torch.Tensor:
        """(texts · longest, d) to (tokens, d), filled."""
        packed: torch.Tensor = _Unpad.apply(state, self._at)
        return self.fill(packed)

    def fill(self, state: torch.Tensor) -> torch.Tensor:
        """(tokens, d) and rows of zeros, which no text reads."""
        return functional.pad(state, (0, 0, 0, -self.tokens % TOKENS))

    def mean(self, state: torch.Tensor) -> torch.Tensor:
        """(tokens, d) to each text's mean (texts, d)."""
        padded = self.pad(state.float()).view(len(self.lengths), self.longest, -1)
        return padded.sum(dim=1) / self._size[:, None]

    def first(self, state: torch.Tensor) -> torch.Tensor:
        """(tokens, d) to each text's first token (texts, d)."""
        return state.float()[torch.from_numpy(self._starts).to(state.device)]


# the library's index gradients add up row by row; here every row has one source, so copies suffice
class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: torch.Tensor, at: torch.Tensor, rows: int) -> torch.Tensor:
        ctx.save_for_backward(at)
        return state.new_zeros((rows, state.shape[1])).index_copy_(0, at, state)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _Unpad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(at)
        ctx.rows = len(state)
        return state.index_select(0, at)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return grad.new_zeros((ctx.rows, grad.shape[1])).index_copy_(0, ctx.saved_tensors[0], grad), None


def trainable(model: torch.nn.Module, layers: Layers) -> dict[str, torch.nn.Parameter]:
    """The parameters of the top `layers` blocks (for "all", of the whole model); the others no longer train."""
    stacks = [part for name, part in model.named_modules() if name in ("encoder.layer", "layers", "encoder.layers")]
    named = dict(model.named_parameters())
    chosen = named
    if layers != "all" and stacks and isinstance(stacks[0], torch.nn.ModuleList):
        wanted = {id(parameter) for block in list(stacks[0])[-layers:] for parameter in block.parameters()}
        chosen = {name: parameter for name, parameter in named.items() if id(parameter) in wanted}
    for name, parameter in named.items():
        parameter.requires_grad_(name in chosen and not name.startswith("pooler."))
    return {name: parameter for name, parameter in chosen.items() if not name.startswith("pooler.")}


def weight_of(linear: Any) -> torch.Tensor:
    """A linear map's present weight, with its low-rank update if it has one."""
    update = getattr(linear, "get_delta_weight", None)
    weight: torch.Tensor = linear.weight if update is None else linear.base_layer.weight + update("default")
    return weight


@contextmanager
def _precision(device: str, bf16: bool) -> Iterator[None]:
    with torch.autocast(device, torch.bfloat16) if bf16 else nullcontext():
        yield
