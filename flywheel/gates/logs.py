"""Judges logs of tests that somebody else ran: rows by arm in, one verdict for each arm against the control out.

It reads no file. A log may hold any number of experiments and arms, with users or without; without, a warning says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from flywheel.files import cells
from flywheel.files.cells import BadCell
from flywheel.gates.decision import GateDecision, PromotionPolicy, Verdict
from flywheel.gates.live import SRM_LEVEL, LiveEvidence, decide_live, effects
from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.ratio import ArmSums, log_ratio
from flywheel.stats.sequential import e_gain, e_loss
from flywheel.stats.srm import sample_ratio

NO_EXPERIMENT = "all"
METRICS = {"ctr": "clicks", "satisfied_ctr": "satisfied"}
_NAMES = {
    "experiment": ("experiment", "experiment_id", "test", "test_id", "clickability_test_id"),
    "arm": ("arm", "variant", "variation", "group", "bucket", "model_version"),
    "user": ("user", "user_id", "client_id", "user_key", "visitor", "visitor_id"),
    "pages": ("pages", "impressions", "views"),
    "clicks": ("clicks", "clicked", "click"),
    "satisfied": ("satisfied", "satisfied_clicks"),
    "before": ("before",),
}
_CONTROLS = ("champion", "control", "baseline", "base", "a", "0")
# arms whose counts differ by more than this share were probably not meant to be equal
_NEARLY_EQUAL = 0.1
NO_USERS = (
    "no user ids: every page counts as a user of its own, which makes intervals too narrow where people come back"
)
NO_SATISFIED = "nothing says which clicks satisfied: clicks alone reward clickbait"


@dataclass(slots=True)
class _ArmRows:
    """One arm while it is read: users' rows [pages, clicks, satisfied, before], and sums of pages without a user."""

    users: dict[str, list[float]] = field(default_factory=dict)
    nobody: dict[str, ArmSums] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm's sums by metric; `steady` leaves out the twentieth of users who saw the most pages."""

    metrics: Mapping[str, ArmSums]
    steady: Mapping[str, ArmSums] = field(default_factory=dict)
    anonymous_pages: float = 0.0

    @property
    def users(self) -> int:
        """Users, and pages without a user."""
        return self.metrics["ctr"].users


@dataclass(frozen=True, slots=True)
class LoggedTest:
    """One experiment: its arms in the order of the log. `crossed` users met more than one arm and count in none."""

    name: str
    arms: Mapping[str, Arm]
    crossed: int = 0


@dataclass(frozen=True, slots=True)
class LogRules:
    """How the log is judged: `policy.live_metric` decides, `alpha` is each experiment's own error rate.

    `control` names the arm that the others are compared with (None: one of `champions`, else an arm with a usual name
    such as `control`, else the first). `shares` are what each arm was meant to get. `days` is how long the test ran
    (None: it is over).
    """

    policy: PromotionPolicy
    alpha: float
    control: str | None = None
    champions: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    days: float | None = None


class Log:
    """Gathers rows into tests.

    Attributes:
        columns: names that any row had, in lower case.
    """

    def __init__(self) -> None:
        self.columns: set[str] = set()
        self._tests: dict[str, dict[str, _ArmRows]] = {}
        self._unnamed: Counter[str] = Counter()

    def add(self, row: Mapping[str, Any]) -> str | None:
        """Take one row; returns why it is left out, or None.

        A row has an arm, pages (without them it is one page) and clicks. It may have experiment, user, satisfied clicks
        and `before` (see `ArmSums`). A row with an experiment and no arm is an arm of its own, numbered as it comes.
        """
        row = {str(name).strip().casefold(): value for name, value in row.items()}
        values = {name: _first(row, names) for name, names in _NAMES.items()}
        if values["pages"] is None and any(name in row for name in _NAMES["pages"]):
            return "no pages"
        self.columns |= row.keys()
        if values["clicks"] is None and any(name in row for name in _NAMES["clicks"]):
            return "no clicks"
        try:
            values |= {name: cells.text(values[name]) for name in ("experiment", "arm", "user")}
        except BadCell as problem:
            return f"experiment, arm or user: {problem}"
        experiment = str(values["experiment"]) if values["experiment"] is not None else NO_EXPERIMENT
        if values["arm"] is None:
            if values["experiment"] is None or values["user"] is not None:
                return "no arm"
            self._unnamed[experiment] += 1
            values["arm"] = f"arm {self._unnamed[experiment]}"
        numbers = {name: _count(values[name], default) for name, default in (("pages", 1.0), ("clicks", 0.0))}
        pages, clicks = numbers["pages"], numbers["clicks"]
        satisfied = _count(values["satisfied"], math.nan)
        before = _number(values["before"], math.nan)
        if pages is None or clicks is None or satisfied is None or before is None:
            return "pages, clicks or satisfied is no number of at least 0"
        if pages == 0:
            return "no pages"
        if values["user"] is None and pages != 1 and any(value > pages for value in (clicks, satisfied)):
            return "more clicks than pages, and no user: their spread is not known"
        arm = self._tests.setdefault(experiment, {}).setdefault(str(values["arm"]), _ArmRows())
        if values["user"] is None:
            _add_pages(arm, pages, {"ctr": clicks, "satisfied_ctr": satisfied})
            return None
        total = arm.users.setdefault(str(values["user"]), [0.0, 0.0, 0.0, 0.0])
        for place, value in enumerate((pages, clicks, satisfied)):
            total[place] += value
        if not math.isnan(before):
            total[3] = before
        return None

    def missing(self) -> str | None:
        """Which needed column no row has, the arm or the clicks; None where both are there."""
        for name in ("clicks",) if self.columns & {*_NAMES["arm"], *_NAMES["experiment"]} else ("arm", "clicks"):
            if not self.columns & {*_NAMES[name]}:
                return f"no column of {name} ({', '.join(_NAMES[name])}); there are: {', '.join(sorted(self.columns))}"
        return None

    def tests(self) -> list[LoggedTest]:
        """What was gathered, experiments in the order of the log."""
        return [_test(name, arms) for name, arms in self._tests.items()]


def _add_pages(arm: _ArmRows, pages: float, values: Mapping[str, float]) -> None:
    """Pages without a user: one page with any number of clicks, or many pages of which `values` were clicked."""
    for name, value in values.items():
        # many pages have at most one click each here, so that the sum of squares is the sum
        squared = value**2 if pages == 1 else value
        sums = ArmSums(round(pages), pages, pages, value, squared, value)
        arm.nobody[name] = arm.nobody.get(name, ArmSums()) + sums


def _test(name: str, arms: Mapping[str, _ArmRows]) -> LoggedTest:
    arms_met = Counter(user for arm in arms.values() for user in arm.users)
    crossed = {user for user, count in arms_met.items() if count > 1}
    rows = {
        key: np.array([row for user, row in arm.users.items() if user not in crossed]).reshape(-1, 4)
        for key, arm in arms.items()
    }
    pages = np.concatenate([table[:, 0] for table in rows.values()])
    most = float(np.quantile(pages, 0.95)) if len(pages) else math.inf
    sums_of_arm = {key: _arm(rows[key], arm.nobody, most) for key, arm in arms.items()}
    return LoggedTest(name, sums_of_arm, len(crossed))


def _arm(rows: np.ndarray[tuple[int, int], np.dtype[np.float64]], nobody: Mapping[str, ArmSums], most: float) -> Arm:
    """`rows` (users, 4): pages, clicks, satisfied clicks (nan: unknown) and `before`."""
    calm = rows[rows[:, 0] <= most]
    metrics, steady = {}, {}
    for column, name in enumerate(METRICS, 1):
        whole = nobody.get(name, ArmSums()) + ArmSums.of(rows[:, column], rows[:, 0], rows[:, 3])
        if not math.isnan(whole.value):  # one page without the figure makes the sum nan: the arm has no such metric
            metrics[name] = whole
            steady[name] = ArmSums.of(calm[:, column], calm[:, 0], calm[:, 3])
    return Arm(metrics, steady if len(rows) else {}, nobody.get("ctr", ArmSums()).pages)


def judge(test: LoggedTest, reading: LogRules) -> dict[str, Any]:
    """Every arm against the control, as plain values.

    The arms share `reading.alpha` by Holm (1979). One over an e-value is a p-value at any look.

    Returns:
        `{experiment, control, arms, metric, srm, crossed, warnings, comparisons, best}`; a comparison is `{arm, effect,
        low, high, p_value, sequence, e_gain, e_loss, alpha, verdict, reasons}`, relative to the control; `best` is the
        promoted arm with the largest effect, or None.

    Raises:
        ValueError: the control that was named is no arm of the test, or an arm has no share where shares are given.
    """
    control = _control(test, reading)
    policy, clicks_alone = _policy(test, reading)
    shares, unequal = _shares(test, reading)
    nobody = NO_USERS if any(arm.anonymous_pages for arm in test.arms.values()) else None
    others = [name for name in test.arms if name != control]
    estimates = {name: log_ratio(*_pair(test, policy, (control, name))) for name in others}
    # Holm: the strongest evidence first, and every promotion leaves a larger level to the rest
    ranked = sorted(others, key=lambda name: -_evidence_for(estimates[name], policy))
    comparisons: dict[str, dict[str, Any]] = {}
    remaining = len(others)
    for name in ranked:
        level = reading.alpha / max(1, remaining)
        decision = decide_live(_evidence(test, reading, policy, (control, name), shares), policy, level)
        remaining -= decision.verdict is Verdict.PROMOTE
        comparisons[name] = _comparison(name, policy, estimates[name], decision, over=reading.days is None)
    promoted = [name for name in others if comparisons[name]["verdict"] == Verdict.PROMOTE]
    return {
        "experiment": test.name,
        "control": control,
        "metric": policy.live_metric,
        "arms": {name: _figures(arm) for name, arm in test.arms.items()},
        "srm": asdict(sample_ratio(_users(test, shares), shares, level=SRM_LEVEL)) if len(shares) > 1 else None,
        "crossed": test.crossed,
        "warnings": [words for words in (nobody, clicks_alone, unequal, _alone(test)) if words],
        "comparisons": [comparisons[name] for name in others],
        "best": max(promoted, key=lambda name: float(comparisons[name]["effect"]), default=None),
    }


def _control(test: LoggedTest, reading: LogRules) -> str:
    if reading.control is not None:
        if reading.control not in test.arms:
            raise ValueError(f"{test.name} has no arm {reading.control!r}; it has {', '.join(test.arms)}")
        return reading.control
    arm_of_name = {name.casefold(): name for name in test.arms}
    names = (*(name.casefold() for name in reading.champions), *_CONTROLS)
    return next((arm_of_name[name] for name in names if name in arm_of_name), next(iter(test.arms)))


def _policy(test: LoggedTest, reading: LogRules) -> tuple[PromotionPolicy, str | None]:
    """The policy, on clicks where the log has nothing better."""
    metric = reading.policy.live_metric
    if all(metric in arm.metrics for arm in test.arms.values()):
        return reading.policy, NO_SATISFIED if metric == "ctr" and not _all_have(test, "satisfied_ctr") else None
    return replace(reading.policy, live_metric="ctr"), NO_SATISFIED


def _all_have(test: LoggedTest, metric: str) -> bool:
    return all(metric in arm.metrics for arm in test.arms.values())


def _alone(test: LoggedTest) -> str | None:
    if len(test.arms) > 1:
        return None
    return f"{test.name}: one arm ({', '.join(test.arms)}): nothing to hold it against"


def _users(test: LoggedTest, shares: Mapping[str, float]) -> dict[str, int]:
    """Users by arm; 0 for an arm that has a share and is not in the log."""
    return {name: test.arms[name].users if name in test.arms else 0 for name in {**test.arms, **shares}}


def _shares(test: LoggedTest, reading: LogRules) -> tuple[dict[str, float], str | None]:
    """What each arm was meant to get: as given, else equal shares where the counts are near them, else unknown."""
    users = _users(test, {})
    if reading.shares:
        absent = set(users) - set(reading.shares)
        if absent:
            raise ValueError(f"{test.name}: no share for {', '.join(sorted(absent))}")
        return dict(reading.shares), None
    equal = sum(users.values()) / max(1, len(users))
    if all(abs(count - equal) <= _NEARLY_EQUAL * equal for count in users.values()):
        return dict.fromkeys(users, 1.0), None
    return {}, "arms of unequal size and no shares given: whether the split is as it was meant cannot be told"


def _pair(test: LoggedTest, policy: PromotionPolicy, names: tuple[str, str]) -> tuple[ArmSums, ArmSums]:
    champion, challenger = (test.arms[name].metrics[policy.live_metric] for name in names)
    return (champion, challenger) if policy.cuped else (champion.without_before(), challenger.without_before())


def _evidence_for(found: Estimate | Inconclusive, policy: PromotionPolicy) -> float:
    return e_gain(found, expected=policy.expected_gain) if isinstance(found, Estimate) else -1.0


def _evidence(
    test: LoggedTest, reading: LogRules, policy: PromotionPolicy, pair: tuple[str, str], shares: Mapping[str, float]
) -> LiveEvidence:
    champion, challenger = (test.arms[name] for name in pair)
    metrics = {name: (champion.metrics[name], challenger.metrics[name]) for name in METRICS if _all_have(test, name)}
    metric = policy.live_metric
    steady = (
        (champion.steady[metric], challenger.steady[metric])
        if metric in champion.steady and metric in challenger.steady
        else None
    )
    days = policy.max_days if reading.days is None else reading.days
    return LiveEvidence(metrics, steady, users=_users(test, shares), shares=shares, crossed=test.crossed, days=days)


def _comparison(
    arm: str, policy: PromotionPolicy, found: Estimate | Inconclusive, decision: GateDecision, *, over: bool
) -> dict[str, Any]:
    reasons = decision.reasons[1:] if over and decision.evidence.get("expired") else decision.reasons
    verdict = {"verdict": decision.verdict.value, "reasons": list(reasons)}
    facts: dict[str, Any] = {"arm": arm, "alpha": decision.evidence["alpha"]}
    facts |= dict.fromkeys(("effect", "low", "high", "p_value", "sequence", "e_gain", "e_loss"))
    if isinstance(found, Estimate):
        effect, low, high = (math.expm1(min(value, 700.0)) for value in (found.effect, *found.interval()))
        facts |= {"effect": effect, "low": low, "high": high, "p_value": found.p_value()}
        expected = policy.expected_gain
        facts |= {"sequence": list(effects(found, expected, split=True)[1:])}
        facts |= {"e_gain": e_gain(found, expected=expected), "e_loss": e_loss(found, expected=expected)}
    return facts | verdict


def _figures(arm: Arm) -> dict[str, Any]:
    rates = {name: sums.ratio for name, sums in arm.metrics.items()}
    return {"users": arm.users, "pages": arm.metrics["ctr"].pages, **rates}


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _count(value: Any, default: float) -> float | None:
    """A number of at least 0, `default` where there is none, None where it is something else."""
    number = _number(value, default)
    return None if number is None or number < 0 else number


def _number(value: Any, default: float) -> float | None:
    try:
        number = cells.number(value)
    except BadCell:
        return None
    return default if number is None else number


def summary(judged: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many comparisons ended in which verdict."""
    counts = Counter(comparison["verdict"] for test in judged for comparison in test["comparisons"])
    return {verdict.value: counts[verdict.value] for verdict in Verdict}
