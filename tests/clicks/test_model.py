from __future__ import annotations

import dataclasses
from collections import defaultdict

import numpy as np
import pytest

from flywheel.clicks import model as clicks
from flywheel.clicks.evidence import Evidence, ScoreFeatures
from flywheel.clicks.model import ClickModel, Curve, Options
from flywheel.rehearsal.people import SILENT, Afterwards, Habit, People
from tests import defaults

QUERIES, K = 300, 10


class World:
    """Queries with k results each, one or two relevant ones mostly near the top, and scores that know a little."""

    def __init__(self, seed: int = 0, queries: int = QUERIES, documents: int = 900) -> None:
        rng = np.random.default_rng(seed)
        self.documents = np.stack([rng.permutation(documents)[:K] for _ in range(queries)])
        chance = 0.45 / np.arange(1, K + 1) ** 0.9
        self.relevant = rng.random((queries, K)) < chance
        self.score = np.sort(rng.normal(0.5, 0.08, (queries, K)), axis=1)[:, ::-1] + 0.08 * self.relevant

    def clicked(self, habit: Habit, sessions: int, seed: int, afterwards: Afterwards = SILENT) -> Evidence:
        rng = np.random.default_rng(seed)
        query = rng.integers(0, len(self.relevant), sessions)
        did = People(habit, afterwards).react(self.relevant[query], rng)
        return evidence(self.documents, query, did.clicked, did.dwell_ms)

    def features(self, found: Evidence) -> ScoreFeatures:
        place = np.array(
            [
                np.flatnonzero(self.documents[q] == int(found.documents[d]))[0]
                for q, d in zip(found.pair_query, found.pair_document, strict=True)
            ]
        )
        return ScoreFeatures.of(found, self.score[found.pair_query, place])

    def truth(self, found: Evidence) -> np.ndarray:
        shown = [
            self.documents[q] == int(found.documents[d])
            for q, d in zip(found.pair_query, found.pair_document, strict=True)
        ]
        return np.array([bool((self.relevant[q] & at).any()) for q, at in zip(found.pair_query, shown, strict=True)])


def evidence(documents: np.ndarray, query: np.ndarray, clicked: np.ndarray, dwell_ms: np.ndarray) -> Evidence:
    """Aggregate sessions by a plain loop."""
    pairs: dict[tuple[int, int], int] = {}
    sets: dict[tuple[int, ...], int] = {(): 0}
    rows: dict[tuple[int, int, int, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    ends: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(3))
    for q, hit, dwell in zip(query, clicked, dwell_ms, strict=True):
        above: tuple[int, ...] = ()
        last = -1
        for place in range(documents.shape[1]):
            pair = pairs.setdefault((int(q), int(documents[q, place])), len(pairs))
            row = rows[pair, place + 1, sets.setdefault(above, len(sets)), place - last]
            row[0] += 1
            row[1] += hit[place]
            if hit[place]:
                above, last = (*above, pair), place
                ends[pair] += (dwell[place] > 0, dwell[place] >= 30_000, 0 < dwell[place] < 5_000)
    keys, values = np.array(list(rows)).T.astype(np.int32), np.array(list(rows.values())).T
    names = sorted({d for _, d in pairs})
    number = {d: i for i, d in enumerate(names)}
    end = np.array([ends[i] for i in range(len(pairs))]).T
    return Evidence(
        queries=tuple(f"query {i}" for i in range(len(documents))),
        documents=tuple(map(str, names)),
        pair_query=np.array([q for q, _ in pairs], dtype=np.int32),
        pair_document=np.array([number[d] for _, d in pairs], dtype=np.int32),
        measured=end[0], satisfied=end[1], bounced=end[2],
        pair=keys[0], rank=keys[1], above=keys[2], impressions=values[0], clicks=values[1],
        set_start=np.concatenate([[0], np.cumsum([len(s) for s in sets])]),
        set_pairs=np.array([p for s in sets for p in s], dtype=np.int32), distance=keys[3],
    )  # fmt: skip


def learned(world: World, found: Evidence, options: Options | None = None) -> tuple[ClickModel, float, float]:
    """The fit, and precision and recall of its positives."""
    model = clicks.fit(found, world.features(found), options or defaults.options())
    truth, positive = world.truth(found), model.posterior > 0.5
    return model, float(truth[positive].mean()) if positive.any() else 1.0, float(positive[truth].mean())


@pytest.mark.parametrize(("habit", "floor"), [("pbm", 0.9), ("cascade", 0.9), ("trust", 0.85), ("poison", 0.9)])
def test_positives_are_relevant_whoever_clicks(habit: Habit, floor: float) -> None:
    """Ten sessions a query give positives of at least 90 % precision (85 % under trust), and most of the relevant."""
    world = World()
    for seed in range(3):
        model, precision, recall = learned(world, world.clicked(habit, 3000, seed))
        assert precision >= floor
        assert recall >= 0.6
        assert model.two_kinds


def test_pbm_curves_are_recovered() -> None:
    """With much evidence the rates come out as they were put in: (0.9, 0.1) / rank, examination 1 / rank."""
    world = World()
    model, _, _ = learned(world, world.clicked("pbm", 40_000, 0))
    rank = np.arange(1, K + 1)
    assert model.curve.irrelevant[:, 0] == pytest.approx(0.1 / rank, abs=0.01)
    assert model.curve.relevant[:, 0] == pytest.approx(0.9 / rank, abs=0.05)
    assert model.curve.examination == pytest.approx(1 / rank, abs=0.05)
    assert model.converged


@pytest.mark.parametrize("habit", ["pbm", "trust"])
def test_few_relevant_documents_at_a_rank_do_not_bend_the_curve(habit: Habit) -> None:
    """With two relevant documents in a hundred at low ranks, examination is 1 / rank within 0.04 all the same."""
    world = World(queries=800, documents=4000)
    world.relevant &= np.random.default_rng(3).random(world.relevant.shape) < np.where(np.arange(K) < 3, 1, 0.15)
    model, _, _ = learned(world, world.clicked(habit, 24_000, 0))
    assert model.curve.examination == pytest.approx(1 / np.arange(1, K + 1), abs=0.04)


def test_each_habit_is_known_by_its_clicks() -> None:
    """People who go down and stop are seen to do so, with the chances they go on with; pbm people are not."""
    world = World()
    cascade, _, _ = learned(world, world.clicked("cascade", 6000, 1))
    pbm, _, _ = learned(world, world.clicked("pbm", 6000, 1))
    assert (cascade.scheme, pbm.scheme) == ("cascade", "rank")
    # after a click on an irrelevant and a relevant document, and after a skip: what `flywheel.rehearsal.people` says
    assert cascade.onward == pytest.approx((0.8, 0.2, 0.9), abs=0.08)
    assert cascade.curve.relevant[1, 2] < 0.5 * cascade.curve.relevant[1, 0]
    assert (pbm.curve.relevant == pbm.curve.relevant[:, :1]).all()


def test_a_result_below_relevant_ones_is_not_blamed_for_being_missed() -> None:
    """With four relevant documents on a page, cascade people's clicks still find most; by rank alone they do not."""
    world = World(seed=1, queries=100)
    world.relevant = np.random.default_rng(1).random(world.relevant.shape) < 0.4
    found = world.clicked("cascade", 6000, 0)
    _, precision, recall = learned(world, found)
    _, _, blamed = learned(world, found, defaults.options(session_context=False))
    assert precision >= 0.9
    assert recall >= 0.65 > blamed + 0.15


def test_dwell_confirms_and_bounces_weaken() -> None:
    """The same clicks with telling dwell separate better; a bounced pair falls, a satisfied one rises."""
    world = World()
    found = world.clicked("trust", 2000, 3, Afterwards(thumb_rate=0.0))
    nothing = np.zeros(found.pairs)
    bare = dataclasses.replace(found, measured=nothing, satisfied=nothing, bounced=nothing)
    with_dwell, without = learned(world, found), learned(world, bare)
    assert with_dwell[1] + with_dwell[2] > without[1] + without[2] + 0.05
    assert with_dwell[0].curve.ends_relevant[0] > 0.6 > 0.4 > with_dwell[0].curve.ends_irrelevant[0]


def test_dwell_that_tells_nothing_changes_little() -> None:
    """Where dwell is noise its rates come out alike, and precision holds."""
    world = World()
    noise = Afterwards(satisfied_if_relevant=0.5, satisfied_if_irrelevant=0.5, thumb_rate=0.0)
    model, precision, _ = learned(world, world.clicked("pbm", 3000, 4, noise))
    assert precision >= 0.9
    assert model.curve.ends_relevant == pytest.approx(model.curve.ends_irrelevant, abs=0.1)


def test_a_rank_with_too_few_impressions_borrows_the_last_curve() -> None:
    """Below the minimum a rank takes its rates from the previous fit, and a warning names it."""
    world = World()
    found = world.clicked("pbm", 3000, 5)
    features = world.features(found)
    kept = found.rank < 10
    kept[np.flatnonzero(~kept)[:5]] = True
    columns = {
        name: getattr(found, name)[kept] for name in ("pair", "rank", "above", "distance", "impressions", "clicks")
    }
    thin = dataclasses.replace(found, **columns)
    last = Curve(np.full((K, 3), 0.77), np.full((K, 3), 0.11), np.full((K, 3), 1e4), np.ones(3) / 3, np.ones(3) / 3)
    model = clicks.fit(thin, features, defaults.options(), last)
    assert model.curve.relevant[9].tolist() == [0.77] * 3
    assert model.curve.relevant[0, 0] != 0.77
    assert any(warning.startswith("rank 10:") and "last curve" in warning for warning in model.warnings)
    assert any("no last curve" in warning for warning in clicks.fit(thin, features, defaults.options()).warnings)


def test_words_find_what_the_champion_thinks_little_of() -> None:
    """A second witness that knows as much as the champion makes more of the relevant positives, and fewer of others."""
    world, got = World(), []
    for seed in range(3):
        found = world.clicked("trust", 3000, seed)
        truth = world.truth(found)
        told = np.random.default_rng(seed).normal(5.0, 1.0, found.pairs) + 2.0 * truth
        alone = world.features(found)
        for features in (alone, ScoreFeatures.of(found, alone.score, told)):
            positive = clicks.fit(found, features, defaults.options()).posterior > 0.5
            got.append((positive[truth].mean(), truth[positive].mean()))
    without, beside = np.mean(got[::2], axis=0), np.mean(got[1::2], axis=0)
    assert (beside > without + 0.02).all()


def test_the_fit_is_deterministic_and_reports_its_iterations() -> None:
    """The same evidence gives the same posterior to the last bit; one iteration is not convergence."""
    world = World()
    found = world.clicked("pbm", 2000, 7)
    first, second = learned(world, found)[0], learned(world, found)[0]
    assert (first.posterior == second.posterior).all()
    short = clicks.fit(found, world.features(found), defaults.options(iterations=1))
    assert not short.converged
    assert any("had not converged" in warning for warning in short.warnings)


def test_no_impressions_is_an_error() -> None:
    """There is no posterior without evidence."""
    world = World()
    found = world.clicked("pbm", 10, 0)
    names = ("pair", "rank", "above", "distance", "impressions", "clicks")
    empty = dataclasses.replace(found, **{name: getattr(found, name)[:0] for name in names})
    with pytest.raises(clicks.NoEvidenceError, match="no impressions"):
        clicks.fit(empty, world.features(found), defaults.options())
