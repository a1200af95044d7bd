"""What `flywheel gate` says: a table and reasons for people, one JSON object, and the report that pipelines read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flywheel.files.verdicts.report import Claim, Outcome, Suite, VerdictReport
from flywheel.gates.decision import PromotionPolicy, Verdict
from flywheel.gates.proving.collections import Compared, Proof
from flywheel.gates.scores import Measured, figures
from flywheel.gates.sentences import ADVISED, headline
from flywheel.stats.estimate import Estimate, Inconclusive

OUTCOMES: Mapping[Verdict, Outcome] = {
    Verdict.PROMOTE: "pass",
    Verdict.REJECT: "fail",
    Verdict.INCONCLUSIVE: "undecided",
}
CODES: Mapping[Outcome, int] = {"pass": 0, "fail": 1, "undecided": 3}
COLUMNS = ("collection", "queries", "metric", "against", "model", "difference", "95 %")


def sentence(proof: Proof, model: str, against: str) -> str:
    """The verdict as advice, with both models' names."""
    return headline(proof.decision, (model, against), ADVISED)


def rows(proof: Proof, beside: tuple[str, ...]) -> list[tuple[str, ...]]:
    """One row for each collection and metric; columns as `COLUMNS`, then one for each ranker in `beside`."""
    return [_row(one, metric, measured, beside) for one in proof.compared for metric, measured in one.measured.items()]


def _row(one: Compared, metric: str, measured: Measured, beside: tuple[str, ...]) -> tuple[str, ...]:
    sums, estimate = measured.sums, measured.estimate
    means = (f"{total / sums.queries:.4f}" if sums.queries else "–" for total in (sums.champion, sums.challenger))
    moved = reach = "–"
    if isinstance(estimate, Estimate):
        low, high = estimate.interval()
        moved, reach = f"{estimate.effect:+.4f}", f"{low:+.4f} to {high:+.4f}"
    others = (f"{one.means[name][metric]:.4f}" for name in beside)
    return (one.name, str(one.queries), metric, *means, moved, reach, *others)


def as_json(proof: Proof, names: Mapping[str, str], policy: PromotionPolicy, alpha: float) -> dict[str, Any]:
    """The verdict with every figure; `names` are `model` and `against`, as they were given."""
    outcome = OUTCOMES[proof.decision.verdict]
    return {
        "verdict": outcome,
        "exit_code": CODES[outcome],
        "headline": sentence(proof, names["model"], names["against"]),
        "reasons": list(proof.decision.reasons),
        **names,
        "alpha": alpha,
        "min_effect": policy.min_effect,
        "margin": policy.margin,
        "collections": [_collection(one) for one in proof.compared],
        "evidence": proof.decision.evidence,
    }


def _collection(one: Compared) -> dict[str, Any]:
    return {
        "name": one.name,
        "queries": one.queries,
        "lost": list(one.lost),
        "metrics": {metric: measured.as_dict() for metric, measured in one.measured.items()},
        "means": {ranker: dict(means) for ranker, means in one.means.items()},
    }


def report(
    proof: Proof, names: Mapping[str, str], beside: tuple[str, ...], *, seconds: float, now: str
) -> VerdictReport:
    """The same for pipelines: one check for the verdict, and one for each collection and metric."""
    outcome = OUTCOMES[proof.decision.verdict]
    said = sentence(proof, names["model"], names["against"])
    verdict = Suite("verdict", (Claim(f"better than {names['against']}", outcome, said),))
    return VerdictReport(
        title=f"{names['model']} against {names['against']}",
        subject=_relative(names["model"]),
        outcome=outcome,
        headline=said,
        reasons=proof.decision.reasons,
        suites=(verdict, *map(_suite, proof.compared)),
        columns=(*COLUMNS, *beside),
        rows=rows(proof, beside),
        seconds=seconds,
        now=now,
    )


def _suite(one: Compared) -> Suite:
    return Suite(one.name, tuple(_check(one, metric, measured) for metric, measured in one.measured.items()))


def _check(one: Compared, metric: str, measured: Measured) -> Claim:
    name = f"nothing lost in {metric}"
    if isinstance(measured.estimate, Inconclusive):
        return Claim(name, "undecided", measured.estimate.reason)
    return Claim(name, "fail" if metric in one.lost else "pass", figures(measured.estimate, measured.sums))


def _relative(name: str) -> str:
    path = Path(name)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd()).as_posix()
    return path.as_posix()
