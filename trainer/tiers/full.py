"""Trains both towers at once. Document vectors change, so the caller re-embeds the corpus into a new index.

It uses in-batch and hard negatives. A document that answers a query, or may, is never its negative. What stays near the
champion are rankings, `trainer.fitting.staying`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer

from flywheel.retrieval.encoder import Encoder, Task, pick_device, prompt_of, route, uses_bf16
from trainer.data import examples as pairs
from trainer.data.dataset import ANCHORS, Snapshot
from trainer.data.recipe import Recipe
from trainer.data.sparse import Sparse
from trainer.fitting import fit, modeldir, negatives, staying
from trainer.fitting.losses import contrast, distil, nested
from trainer.fitting.objective import metrics as metrics_of
from trainer.fitting.teacher import Teacher
from trainer.fitting.tower import Tower, tower_of, vectors
from trainer.process.processes import ALONE, Processes
from trainer.process.run import Run

Rows = npt.NDArray[np.int64]
LEARNING_RATE = 4e-5  # the usual 2e-5 for batches of 16, in proportion (linear scaling, Goyal et al. 2017)
BATCH = 32  # every query brings a document and hard negatives, of hundreds of tokens each
SCALE = 20.0  # the library's default for the documents of a batch; trainer.scale is chosen for whole corpora
MOST_STEPS = 8  # times trainer.steps, for a first pass over many queries
POOL = 500  # documents that development queries are ranked against


@dataclasses.dataclass(frozen=True)
class Group:
    """A step: query i's own document is `documents[i]`; its hard negatives are `documents[hard[i]]`, -1 for none.

    `still`: anchors and probes, which learn no document.
    """

    queries: Rows
    documents: Rows
    hard: Rows
    still: Rows


class BothTowers:
    """Ranking over a batch's documents, with distillation if there is a teacher; see `fit.Learner`."""

    def __init__(
        self,
        snapshot: Snapshot,
        plan: pairs.StepPlan,
        towers: tuple[Tower, Tower],
        groups: list[Group],
        still: staying.Still,
        processes: Processes = ALONE,
    ) -> None:
        self._processes, self._still = processes, still
        self._scored: tuple[tuple[tuple[int, int], ...], fit.DevScore] | None = None
        self._recipe, self._plan, self._groups = snapshot.recipe, plan, groups
        self._query, self._document = towers
        self._seed, self._taught = snapshot.header.seed, dict[tuple[int, int], float]()
        judged = plan.examples.judged.take(np.concatenate([plan.examples.dev_seen, plan.examples.dev_unseen]))
        others = np.random.default_rng(snapshot.header.seed).permutation(len(snapshot.doc_ids))[:POOL]
        self._pool = np.union1d(judged.rows, others)

    def learn_from(self, teacher: Teacher, snapshot: Snapshot) -> None:
        """Ask the teacher once about every query and document that will meet in a step."""
        asked = sorted({pair for group in self._groups for pair in _meetings(group)})
        queries, texts = self._plan.examples.queries, snapshot.texts
        scores = teacher.score([(queries[query], texts[snapshot.doc_ids[document]]) for query, document in asked])
        self._taught = dict(zip(asked, scores.tolist(), strict=True))

    def parameters(self) -> fit.Parameters:
        """See `fit.Learner`; parameters that both sides share count once."""
        both = {f"document.{name}": value for name, value in self._document.parameters().items()}
        shared = {id(value) for value in both.values()}
        queries = self._query.parameters().items()
        return both | {f"query.{name}": value for name, value in queries if id(value) not in shared}

    def loss(self, step: int) -> torch.Tensor:
        """Each query against the documents and hard negatives of the whole batch, at every length of the recipe.

        Plus distil · the divergence of rankings that should stay.
        """
        group, recipe, data = self._groups[step], self._recipe, self._plan.examples
        # dropout depends on seed and step only, so that a resumed run computes the same bits
        seeds = np.random.SeedSequence((self._seed, step, self._processes.rank))
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        everyone = np.concatenate([group.queries, group.still])
        asked, read = (
            nested(self._processes.spread(tower.forward, rows), recipe.matryoshka)
            for tower, rows in ((self._query, everyone), (self._document, group.documents))
        )
        count = len(group.queries)
        answers = torch.from_numpy(_answers(data, group)).to(asked[0].device)
        weight = torch.from_numpy(data.weight[group.queries]).to(asked[0])
        total = asked[0].new_zeros(())
        for query, document in zip(asked, read, strict=True):
            loss = contrast(query[:count] @ document.T, answers, kind=recipe.loss, scale=recipe.scale)
            total = total + (loss * weight).sum() / weight.sum() / len(asked)
        if self._taught:
            total = total + recipe.teacher_weight * self._lesson(group, asked[0][:count] @ read[0].T)
        moved = self._still.loss(everyone, group.documents, asked[0] @ read[0].T, scale=recipe.scale)
        return total if moved is None else total + recipe.distil * moved

    def score(self) -> fit.DevScore:
        """See `fit.Learner`; against a pool of documents, because their vectors change too and must be computed.

        It keeps the last score: the start and the end of a run ask twice for the same weights.
        """
        state = fit.state_of(self.parameters())
        if self._scored is None or self._scored[0] != state:
            data, documents = self._plan.examples, vectors(self._document, self._pool)
            found = fit.DevScore(self._ndcg(data.dev_seen, documents), self._ndcg(data.dev_unseen, documents))
            self._scored = state, found
        return self._scored[1]

    def _ndcg(self, rows: Rows, documents: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        if not len(rows):
            return np.empty(0)
        judged = self._plan.examples.judged.take(rows)
        judged.rows = np.searchsorted(self._pool, judged.rows)
        return pairs.dev_ndcg(vectors(self._query, rows) @ documents.T, judged)

    def _lesson(self, group: Group, cosines: torch.Tensor) -> torch.Tensor:
        own = np.concatenate([np.arange(len(group.queries))[:, None], group.hard], axis=1)
        wanted = np.zeros(own.shape, np.float32)
        for place, columns in enumerate(own.tolist()):
            for slot, column in enumerate(columns):
                if column >= 0:
                    wanted[place, slot] = self._taught[int(group.queries[place]), int(group.documents[column])]
        logits = self._recipe.scale * cosines.gather(1, torch.from_numpy(own.clip(0)).to(cosines.device))
        taught, filled = (torch.from_numpy(value).to(cosines.device) for value in (wanted, own >= 0))
        return distil(logits, taught, filled, kind=self._recipe.teacher_loss)


def train(snapshot: Snapshot, run: Run) -> dict[str, Any]:
    """Train both towers and save the version at `run.out`; returns its metrics. Raises ValueError as `query_tower`."""
    recipe = snapshot.recipe.model_copy(update={"scale": SCALE})
    device = pick_device(recipe.device)
    missing = sum(doc_id not in snapshot.texts for doc_id in snapshot.doc_ids)
    if missing:
        raise ValueError(f"the tier full reads documents, and {missing} have no text in the snapshot")
    champion = modeldir.load(snapshot.header.champion_path, max_seq_length=recipe.max_seq_length, device=device)
    modeldir.check_space(champion, snapshot)
    bf16 = uses_bf16(recipe.bf16, device)
    run.report(phase="preparing", step=0, steps=recipe.steps, loss=None, dev=None)
    asked = staying.Champion(Encoder(champion, device=device, bf16=bf16))
    batch = min(BATCH, recipe.batch_size)
    own = staying.far_probes(snapshot, asked, most=_probes(recipe, batch), device=device)
    anchors = snapshot.anchors if recipe.distil else ANCHORS.empty_table()
    snapshot = dataclasses.replace(snapshot, recipe=recipe, anchors=anchors, probes=tuple(own))
    steps = steps_of(snapshot, batch)
    plan = pairs.plan(snapshot, steps=steps, batch_size=batch, curated_share=recipe.curated_share)
    still = _still(snapshot, plan.examples, asked.vectors(plan.examples.queries), own)
    mined = _mine(still.queries, snapshot, plan.examples)
    towers = _towers(champion, snapshot, plan, bf16=bf16, device=device)
    groups = groups_of(plan, mined, recipe.hard_negatives, snapshot.header.seed, own=still.own)
    run.processes.check_same(group.documents for group in groups)
    learner = BothTowers(snapshot, plan, towers, groups, still, run.processes)
    if recipe.teacher:
        learner.learn_from(Teacher(recipe.teacher, scale=recipe.scale, device=device), snapshot)
    before, champions = learner.score(), {name: of.detach().clone() for name, of in learner.parameters().items()}
    fitted = fit.fit(learner, run, steps=steps, learning_rate=LEARNING_RATE, evaluate_every=20)
    # a first run has nothing to keep, and merging would give back a share of what it gained
    share, after = fit.merge(learner, champions, share=recipe.merge if len(plan.examples.replayed) else 1.0)
    metrics = metrics_of(plan, fitted, before, after) | {"merge": share, "mined": len(mined)}
    if run.processes.main:
        modeldir.save(champion, run.out, snapshot, metrics=metrics)
    return metrics


def steps_of(snapshot: Snapshot, batch: int) -> int:
    """`trainer.steps`, or as many as one pass over the queries with new pairs takes; at most MOST_STEPS times as many.

    Tuning in the batch is usually done in passes (the library's own examples take one). Where each query has a document
    of its own, what is not passed over teaches nothing.
    """
    recipe, pairs_ = snapshot.recipe, snapshot.pairs.select(["query", "label", "source"]).to_pylist()
    kinds = {kind: {row["query"] for row in pairs_ if row["label"] == "positive" and row["source"] == kind}
             for kind in ("new", "replay")}  # fmt: skip
    fresh = batch - (round(batch * recipe.replay_share) if kinds["replay"] - kinds["new"] else 0)
    return min(max(recipe.steps, -(-len(kinds["new"]) // fresh)), MOST_STEPS * recipe.steps)


def _probes(recipe: Recipe, batch: int) -> int:
    """How many probes the steps have room for."""
    room = recipe.steps * max(1, round(batch * pairs.ANCHOR_SHARE))
    return min(recipe.probes, room) if recipe.distil and recipe.probe_weight else 0


def _still(snapshot: Snapshot, data: pairs.Examples, asked: staying.Vectors, own: Mapping[str, int]) -> staying.Still:
    stays = np.zeros(len(data.queries), bool)
    if snapshot.recipe.distil:
        stays[np.concatenate([data.replayed, data.anchors, data.probes])] = True
    documents = {row: own[data.queries[row]] for row in data.probes.tolist()}
    return staying.Still(asked, snapshot.vectors, stays, documents)


def groups_of(
    plan: pairs.StepPlan, mined: negatives.Negatives, count: int, seed: int, *, own: Mapping[int, int]
) -> list[Group]:
    """The documents of each step, drawn by step and seed only: one answer for each query, then all hard negatives, then
    the documents of probes, which `own` has by row."""
    data, groups = plan.examples, []
    first_curated = len(plan.steps) - plan.curated_steps
    for step, everyone in enumerate(plan.steps):
        learns = data.weight[everyone] > 0
        rows, still = everyone[learns], everyone[~learns]
        generator = np.random.default_rng((seed, step))
        positive = [_draw(data, row, generator, curated=step >= first_curated) for row in rows.tolist()]
        hard = np.full((len(rows), count), -1, np.int64)
        documents = list(positive)
        for place, row in enumerate(rows.tolist()):
            drawn = mined.draw(row, count, generator).tolist()
            hard[place, : len(drawn)] = range(len(documents), len(documents) + len(drawn))
            documents += drawn
        documents += [own[row] for row in still.tolist() if row in own]
        groups.append(Group(rows, np.array(documents, np.int64), hard, still))
    return groups


def _towers(
    champion: SentenceTransformer, snapshot: Snapshot, plan: pairs.StepPlan, *, bf16: bool, device: str
) -> tuple[Tower, Tower]:
    def side(task: Task) -> Tower:
        prompt = prompt_of(champion, task) or ""
        side, dimension = route(champion, task), champion.truncate_dim
        return tower_of(side, layers="all", bf16=bf16, device=device, prompt=prompt, dropout=True, dimension=dimension)

    query, document = side("query"), side("document")
    query.read(plan.examples.queries)
    document.read([snapshot.texts[doc_id] for doc_id in snapshot.doc_ids])
    return query, document


def _mine(asked: staying.Vectors, snapshot: Snapshot, data: pairs.Examples) -> negatives.Negatives:
    texts: Sequence[str] | None = None
    if "bm25" in snapshot.recipe.negative_sources:
        texts = [snapshot.texts[doc_id] for doc_id in snapshot.doc_ids]
    return negatives.mine(data, snapshot.recipe, asked, snapshot.vectors, texts)


def _draw(data: pairs.Examples, row: int, generator: np.random.Generator, *, curated: bool) -> int:
    table: Sparse = data.curated if curated and len(data.curated.of(row)) else data.targets
    start, end = table.start[row : row + 2]
    share = table.values[start:end].astype(np.float64)
    return int(generator.choice(table.rows[start:end], p=share / share.sum()))


def _answers(data: pairs.Examples, group: Group) -> npt.NDArray[np.bool_]:
    """Where (queries, documents) a column other than the query's own is, or may be, an answer too."""
    result = np.zeros((len(group.queries), len(group.documents)), bool)
    for place, row in enumerate(group.queries.tolist()):
        result[place] = np.isin(group.documents, data.answers(row))
        result[place, place] = False
    return result


def _meetings(group: Group) -> list[tuple[int, int]]:
    """(query, document) of each query's own document and hard negatives."""
    met = []
    for place, row in enumerate(group.queries.tolist()):
        columns = [place, *(column for column in group.hard[place].tolist() if column >= 0)]
        met += [(row, int(group.documents[column])) for column in columns]
    return met
