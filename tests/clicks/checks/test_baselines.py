from __future__ import annotations

import itertools

import numpy as np
import pytest

from flywheel.clicks.checks.baselines import Dbn, _looked, fit_dbn, fit_pbm, fit_ubm
from flywheel.clicks.pages import Bools, ClickLog, Floats, Ints, ShownPage
from tests.clicks.logged import START_MS, logged

EXAMINATION = np.array([0.95, 0.6, 0.4, 0.25])
RNG = np.random.default_rng(0)
ATTRACTION = RNG.uniform(0.1, 0.9, (6, 6))


def test_pbm_gives_back_what_made_the_clicks() -> None:
    """Rates are those of the model that was simulated, rank by rank and document by document."""
    world = logged(ATTRACTION, EXAMINATION, seed=1, pages=12_000)
    truth = EXAMINATION[np.maximum(world.log.rank, 1) - 1] * world.of_pairs()[world.log.pair]
    assert np.abs(fit_pbm(world.log).rates(world.log) - truth).mean() < 0.015


def test_ubm_learns_what_a_click_above_changes_and_pbm_cannot() -> None:
    """Where people look a third as often below a click, UBM's rates are right and PBM's are not."""
    world = logged(ATTRACTION, EXAMINATION, seed=2, pages=12_000, after_click=1 / 3)
    below = world.log.distance() > 0
    truth = EXAMINATION[world.log.rank - 1] * np.where(below, 1 / 3, 1.0) * world.of_pairs()[world.log.pair]
    ubm, pbm = (np.abs(fit(world.log).rates(world.log) - truth).mean() for fit in (fit_ubm, fit_pbm))
    assert ubm < 0.02 < 0.04 < pbm


def test_em_ends_where_the_likelihood_has_its_top() -> None:
    """No small change of any attraction or examination makes PBM's penalised likelihood larger (closed form of it)."""
    log = logged(ATTRACTION[:2, :4], EXAMINATION, seed=3, pages=600).log
    model = fit_pbm(log)

    def objective(attraction: Floats, examination: Floats) -> float:
        p = attraction[log.pair] * examination[log.rank - 1]
        told = np.where(log.clicked, np.log(p), np.log1p(-p)).sum()
        return float(told + sum(np.log(part * (1 - part)).sum() for part in (attraction, examination)))

    found = model.attraction, model.examination[: len(EXAMINATION), 0]
    top = objective(*found)
    # a scale can be moved between the two, along which the likelihood is nearly flat, so EM is slow there
    for which, step in itertools.product(range(2), (-0.02, 0.02)):
        for place in range(len(found[which])):
            moved = [part.copy() for part in found]
            moved[which][place] += step
            assert objective(*moved) < top + 0.02


def _dbn_pages(pages: int, seed: int, satisfaction: Floats, going_on: float) -> ClickLog:
    """People go down until a click satisfies them, or they give up."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(pages):
        query = int(rng.integers(len(ATTRACTION)))
        shown = rng.permutation(6)[:4]
        clicked = set()
        for document in shown:
            if rng.random() < ATTRACTION[query, document]:
                clicked.add(f"{query}-{document}")
                if rng.random() < satisfaction[query, document]:
                    break
            if rng.random() > going_on:
                break
        rows.append(ShownPage(f"{query}", f"p{number}", START_MS, [f"{query}-{d}" for d in shown], clicked))
    return ClickLog.of(rows)


def test_dbn_gives_back_what_made_the_clicks() -> None:
    """Attraction, satisfaction and the will to go on are found."""
    satisfaction = np.random.default_rng(4).uniform(0.1, 0.9, (6, 6))
    log = _dbn_pages(15_000, 5, satisfaction, going_on=0.85)
    model = fit_dbn(log)
    names = [[int(part) for part in log.documents[document].split("-")] for document in log.pair_document]
    truth = np.array([[ATTRACTION[q, d], satisfaction[q, d]] for q, d in names])
    assert model.going_on == pytest.approx(0.85, abs=0.03)
    assert np.abs(model.attraction - truth[:, 0]).mean() < 0.03
    assert np.abs(model.satisfaction - truth[:, 1]).mean() < 0.08


def _ways(a: Floats, s: Floats, going_on: float) -> list[tuple[float, list[bool], int, bool]]:
    """Every way down a page: its chance, clicks, the number of places looked at, whether the end was satisfaction."""
    found = []

    def go(k: int, chance: float, clicks: list[bool]) -> None:
        if k == len(a):
            found.append((chance, clicks, k, False))
            return
        for click in (False, True):
            after = chance * (a[k] if click else 1 - a[k])
            did = [*clicks, click]
            rest = did + [False] * (len(a) - k - 1)
            stay = 1 - s[k] if click else 1.0
            if click:
                found.append((after * s[k], rest, k + 1, True))
            found.append((after * stay * (1 - going_on), rest, k + 1, False))
            go(k + 1, after * stay * going_on, did)

    go(0, 1.0, [])
    return found


def test_dbn_weighs_every_way_down_the_page() -> None:
    """Chances to look, to be satisfied and to click are sums over all ways that people can go down a page of four."""
    a, s, going_on = np.array([0.3, 0.6, 0.2, 0.5]), np.array([0.7, 0.4, 0.1, 0.9]), 0.8
    ways = _ways(a, s, going_on)
    assert sum(way[0] for way in ways) == pytest.approx(1.0)
    patterns = list(itertools.product([False, True], repeat=4))
    docs = list("abcd")
    log = ClickLog.of(
        [
            ShownPage("q", f"p{n}", n, docs, {d for d, did in zip(docs, row, strict=True) if did})
            for n, row in enumerate(patterns)
        ]
    )
    last: Ints = np.array([max((k for k, did in enumerate(row) if did), default=-1) for row in patterns])
    looked, satisfied = _looked(log, Dbn(a, s, going_on), last)
    rates = Dbn(a, s, going_on).rates(log)
    for n, row in enumerate(patterns):
        own = [way for way in ways if way[1] == list(row)]
        total = sum(way[0] for way in own)
        by_place = [sum(way[0] for way in own if way[2] > k) / total for k in range(4)]
        assert looked[n] == pytest.approx(by_place)
        assert satisfied[n] == pytest.approx(sum(way[0] for way in own if way[3]) / total)
        likelihood = np.prod(np.where(np.array(row, dtype=bool), rates[n], 1 - rates[n]))
        assert likelihood == pytest.approx(total)


def test_nothing_is_foretold_where_nothing_is_shown() -> None:
    """Short pages have no chances beyond their end, in any of the three."""
    rng = np.random.default_rng(6)
    pages = [
        ShownPage("q", f"p{n}", n, list("abcd")[: 2 + n % 3], {d for d in "ab" if rng.random() < 0.4})
        for n in range(60)
    ]
    log = ClickLog.of(pages)
    empty: Bools = ~log.shown
    for fit in (fit_pbm, fit_ubm, fit_dbn):
        rates = fit(log).rates(log)
        assert (rates[empty] == 0).all()
        assert ((rates[~empty] > 0) & (rates[~empty] < 1)).all()
