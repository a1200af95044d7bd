from __future__ import annotations

import numpy as np
import pytest

from flywheel.clicks.checks.forecast import DAY_MS, MODELS, forward, held_out
from flywheel.clicks.pages import ClickLog, ShownPage
from tests.clicks.logged import Logged, logged

EXAMINATION = 0.9 / np.arange(1.0, 6.0)


@pytest.fixture(scope="module")
def world() -> Logged:
    """20 queries in a little more than two days, a page a minute."""
    rng = np.random.default_rng(0)
    return logged(rng.beta(1.0, 3.0, (20, 8)), EXAMINATION, seed=1, pages=3_600)


def test_each_page_is_foretold_once_by_people_who_did_not_see_it(world: Logged) -> None:
    """Held-out pages are the log's own, and no model knows them better than the truth does."""
    found = held_out(world.log, np.random.default_rng(0))
    assert sorted(found.log.person.tolist()) == sorted(world.log.person.tolist())
    truth = np.where(
        found.log.shown, EXAMINATION[np.maximum(found.log.rank, 1) - 1] * world.of_pairs()[found.log.pair], 0.0
    )
    best = np.where(found.log.clicked, np.log(np.maximum(truth, 1e-12)), np.log1p(-truth)).sum(axis=1).mean()
    assert all(told.mean() < best for told in found.told.values())
    assert found.told["attraction"].mean() > best - 0.1


def test_what_a_model_shares_between_pairs_shows_on_others() -> None:
    """On few pages of queries that differ ours foretells better than PBM and UBM, and the interval says so."""
    rng = np.random.default_rng(3)
    lively = np.repeat(rng.uniform(0.02, 0.6, (150, 1)), 8, axis=1)
    found = held_out(logged(lively, EXAMINATION, seed=4, pages=1_200).log, np.random.default_rng(0))
    assert found.apart("attraction", np.random.default_rng(0)) == (0.0, 0.0, 0.0)
    for name in ("pbm", "ubm"):
        apart, low, high = found.apart(name, np.random.default_rng(0))
        assert apart == pytest.approx((found.told["attraction"] - found.told[name]).mean())
        assert 0 < low < apart < high


def test_perplexity_is_that_of_a_plain_loop(world: Logged) -> None:
    """2 to the mean of -log2 of the chance of what happened, at each rank; beyond the page there is none."""
    found = held_out(world.log, np.random.default_rng(0))
    for name in MODELS:
        told = found.perplexity(name)
        for rank in range(1, 6):
            p = found.rate[name][:, rank - 1]
            happened = np.where(found.log.clicked[:, rank - 1], p, 1 - p)
            assert told[rank - 1] == pytest.approx(2 ** -np.log2(np.clip(happened, 1e-6, 1)).mean())
        assert np.isnan(told[5:]).all()


def test_a_day_is_foretold_by_the_days_before_it(world: Logged) -> None:
    """Changing what is clicked on the last day changes no chance that was given to it."""
    changed = ClickLog.of(_pages(world.log, flip=True))
    before, after = forward(ClickLog.of(_pages(world.log, flip=False)), 1), forward(changed, 1)
    assert before is not None
    assert after is not None
    assert set((before.log.ts_ms // DAY_MS).tolist()) == {int(world.log.ts_ms.max() // DAY_MS)}
    # the first place has no clicks above it that could differ
    assert before.rate["attraction"][:, 0] == pytest.approx(after.rate["attraction"][:, 0])
    assert (before.log.clicked != after.log.clicked).any()


def _pages(log: ClickLog, *, flip: bool) -> list[ShownPage]:
    last = log.ts_ms.max() // DAY_MS
    rows = []
    for page in range(len(log.query)):
        names = [log.documents[log.pair_document[pair]] for pair in log.pair[page]]
        did = log.clicked[page] ^ (flip and log.ts_ms[page] // DAY_MS == last)
        clicked = {name for name, clicked in zip(names, did, strict=True) if clicked}
        rows.append(ShownPage(log.queries[log.query[page]], f"p{page}", int(log.ts_ms[page]), names, clicked))
    return rows


def test_head_middle_and_tail_are_thirds_of_the_pages_by_query() -> None:
    """Every page has one part, head queries were asked more often than middle ones, and those more than tail ones."""
    rng = np.random.default_rng(2)
    rows = []
    for number in range(2_000):
        query = min(int(rng.geometric(0.15)), 40)
        names = [f"{query}-{document}" for document in rng.permutation(4)]
        clicked = {name for name in names if rng.random() < 0.2}
        rows.append(ShownPage(f"q{query}", f"p{number}", number * DAY_MS // 1_000, names, clicked))
    found = forward(ClickLog.of(rows), 5)
    assert found is not None
    parts = found.parts()
    assert (np.sum(list(parts.values()), axis=0) == 1).all()
    usual = {name: found.usual[inside] for name, inside in parts.items()}
    assert usual["head"].min() > usual["middle"].max() >= usual["middle"].min() > usual["tail"].max()
    assert forward(ClickLog.of(rows[:900]), 5) is None
