"""What is learned from clicks, beside what perfect labels would have taught the same trainer on the same budget.

People search with the training queries; after each round the evidence becomes pairs, the trainer makes a version, and
that version ranks the next round's pages. No gate: this measures learning alone, and `loop.py` the gate with it. Three
lines of models start from the base: `champion` learns from clicks, `perfect_shown` from the true labels of every pair
that was shown, `perfect_all` from the true labels of all pairs. The test split is scored after the last round.

"seen" are test queries some of whose documents are relevant to a training query, "unseen" all others.
With `--holdout 0.2` that share of the training queries is searched by nobody and scored instead of the test split:
what settings are to be chosen by. Pages are explored as the settings say, by the product's own explorer (by default
they are, `--set exploration.enabled=false` ends it); `--explore` plays the same people without exploration as well:
`without` beside `champion`. `exploration` says what it took and cost. With `--clicks poison` each round says how many
of the queries that showed the colluders' document to nobody's use (`poisonable`) have it as a positive (`poisoned`).

    python benchmarks/learning.py --beir DIR --clicks pbm --rounds 4 --sessions 8000 --tier query_tower --seeds 3
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.exploration_arm import Arm
from benchmarks.harness import Daemon, print_result
from benchmarks.learning_world import Searchers, labelled, truth
from benchmarks.references import ranked
from flywheel.app import now_ms, open_installation
from flywheel.clicks.pairs import Pairs
from flywheel.daemon.local import DaemonHooks, Installation, LocalOperations
from flywheel.files.beir import Judged
from flywheel.learning.field import Fields
from flywheel.learning.folds import AUTO
from flywheel.learning.snapshot import NothingToLearn
from flywheel.learning.training import Training
from flywheel.rehearsal.people import HABITS
from flywheel.settings.choices import TierChoice
from flywheel.settings.home import Home
from flywheel.settings.load import load
from flywheel.stats.metrics import parse_metric
from flywheel.store.training.runs import TrainingRun
from trainer.data.recipe import ResourceBudget
from trainer.outcome import NOTHING
from trainer.process.launch import launch, read_report

ARMS = ("champion", "perfect_shown", "perfect_all")
METRIC = "ndcg@10"


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@dataclass
class Line:
    """One line of models in a home of its own."""

    name: str
    parts: Installation
    operations: LocalOperations
    tier: str
    seed: int

    @property
    def version(self) -> str:
        return self.parts.store.models.aliases()["champion"]

    def begin(self, number: int) -> TrainingRun:
        """A run's row, as a cycle makes it."""
        run = TrainingRun(
            run_id=f"run-{number + 1:04d}",
            trigger="manual",
            tier=self.tier,
            state="started",
            started_at_ms=now_ms(),
            parent=self.version,
            version=self.parts.registry.next_version(),
            seed=self.seed * 1000 + number,
            until_ms=self.parts.store.feedback.latest_ms(),
        )
        self.parts.store.runs.start(run, "benchmark")
        return run

    def train(self, run: TrainingRun) -> dict[str, Any]:
        """Snapshot, training process, promotion; returns the trainer's report."""
        parts, version = self.parts, str(run.version)
        folder, out = parts.learning.snapshot(run), parts.registry.path(version)
        if run.tier == AUTO:
            return self._train_field(run, folder)
        process = launch(folder, out, replace(ResourceBudget.of(parts.config.limits), threads=2))
        code, report = process.wait(), read_report(out) or {}
        if code == NOTHING:
            say(f"{self.name}: nothing learned: {report['nothing']}")
            return report
        if code:
            raise RuntimeError(f"training failed: {report.get('error')}")
        parts.registry.adopt(version)
        self.operations.promote(version, "the next of its line", "benchmark")
        return report

    def _train_field(self, run: TrainingRun, folder: Path) -> dict[str, Any]:
        fields = Fields(self.parts.learning, Training(self.parts.config.limits, threading.Event()))
        report = fields.train(run, folder)
        fields.clear(run)
        for way in report["field"]["ways"]:
            say(f"  {way}")
        self.parts.registry.adopt(str(run.version))
        self.operations.promote(str(run.version), "the next of its line", "benchmark")
        return report

    def finish(self, run: TrainingRun, state: str) -> None:
        """Close the run's row."""
        self.parts.store.runs.finish(run.run_id, state, now_ms())

    def teach(self, run: TrainingRun, pairs: Pairs) -> bool:
        """Write these pairs as the run's and train on them; False where none is new to this line."""
        store = self.parts.store
        store.pairs.write(run.run_id, pairs)
        parent = store.models.get(str(run.parent))
        if not len(store.pairs.new_since(run.run_id, parent.run_id if parent else None)):
            self.finish(run, "refused")
            return False
        self.train(run)
        self.finish(run, "done")
        return True


@contextmanager
def line(name: str, room: Path, options: argparse.Namespace, seed: int) -> Iterator[Line]:
    """A home with the collection's documents, its vectors from `--indexes` where they are there."""
    home = room / f"{name}-{seed}"
    commands = Daemon(home, {})
    commands.flywheel("init")
    corpus = next(path for path in sorted(options.beir.glob("corpus.jsonl*")))
    commands.flywheel("import", "documents", str(corpus))
    if options.indexes is not None and options.indexes.is_dir():
        shutil.copytree(options.indexes, home / "indexes", dirs_exist_ok=True)
    settings = {f"FLYWHEEL__{key.replace('.', '__').upper()}": value for key, value in options.set}
    with open_installation(Home(home), load(home, settings), threading.Event()) as parts:
        operations = LocalOperations(parts, DaemonHooks(turn=lambda *_: {}))
        parts.indexers.of("base").catch_up()
        if options.indexes is not None:
            shutil.copytree(home / "indexes", options.indexes, dirs_exist_ok=True)
        yield Line(name, parts, operations, options.tier, seed)
    shutil.rmtree(home, ignore_errors=True)


def scores(made: Line, judged: Judged, seen: Sequence[bool]) -> dict[str, float]:
    """nDCG@10 of the line's latest version over all queries, and apart."""
    found = parse_metric(METRIC)(ranked(made.parts, list(judged.texts), 10), judged.judgements)
    parts = {"all": np.ones(len(found), bool), "seen": np.asarray(seen, bool), "unseen": ~np.asarray(seen, bool)}
    return {name: float(found[chosen].mean()) for name, chosen in parts.items() if chosen.any()}


def ask(ours: Line, people: Searchers, number: int, arm: Arm | None) -> None:
    """One round of people's searches on the champion's pages, and on what exploration puts into them."""
    pages = ranked(ours.parts, people.texts, 10)
    for part in range(1 if arm is None else arm.parts):
        if arm is not None:
            arm.plan()
        ours.operations.import_records("feedback", people.search(pages, number, arm, part))


def turn(lines: dict[str, Line], people: Searchers, number: int, arm: Arm | None) -> dict[str, float]:
    """One round: people search the champion's pages, and each line learns in its own way."""
    ours = lines["champion"]
    ask(ours, people, number, arm)
    run, started = ours.begin(number), time.monotonic()
    precision = recall = 0.0
    poisoned = (0, 0)
    try:
        ours.parts.learning.gather(run)
        pairs = ours.parts.store.pairs.of(run.run_id)
        precision, recall = people.precision_recall(pairs)
        poisoned = people.poisoned(pairs)
        ours.train(run)
        ours.finish(run, "done")
    except NothingToLearn as reason:
        say(f"nothing to learn: {reason}")
        ours.finish(run, "refused")
    seconds = time.monotonic() - started
    if "perfect_shown" in lines:
        shown = ours.parts.store.evidence.collect(run.until_ms or 0, ours.parts.config.signals)
        lines["perfect_shown"].teach(lines["perfect_shown"].begin(number), labelled(shown, people.relevant))
    if "perfect_all" in lines:
        lines["perfect_all"].teach(lines["perfect_all"].begin(number), labelled(people.everything(), people.relevant))
    found = {"precision": precision, "recall": recall, "coverage": people.coverage(), "seconds": seconds}
    found |= {"poisoned": poisoned[0], "poisonable": poisoned[1]}
    say(f"round {number + 1}: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()))
    return found


def play(options: argparse.Namespace, room: Path, seed: int, explore: bool) -> dict[str, Any]:
    """All rounds with one seed; without `explore` no page is explored, whatever the settings say."""
    searched, judged, seen = truth(options.beir, options.holdout, seed)
    with line("champion", room, options, seed) as ours:
        lines = {"champion": ours}
        base = scores(ours, judged, seen)
        people = Searchers(searched, options.clicks, options.sessions, seed)
        arm = Arm(ours.parts) if explore and ours.parts.config.exploration.enabled else None
        with others(options, room, seed, lines):
            rounds = [turn(lines, people, number, arm) for number in range(options.rounds)]
            ends = {name: scores(made, judged, seen) for name, made in lines.items()}
    found = {"base": base, **ends, "rounds": rounds}
    if arm is not None:
        found["exploration"] = arm.report(people.coverage())
    say(f"seed {seed}: base {base}, {ends}, {found.get('exploration', 'no exploration')}")
    return found


def play_both(options: argparse.Namespace, room: Path, seed: int) -> dict[str, Any]:
    """The rounds, and where `--explore` asks for it the same people without exploration beside them."""
    found = play(options, room, seed, True)
    if options.explore:
        alone = argparse.Namespace(**{**vars(options), "arms": ["champion"]})
        found["without"] = play(alone, room, seed, False)["champion"]
    return found


@contextmanager
def others(options: argparse.Namespace, room: Path, seed: int, lines: dict[str, Line]) -> Iterator[None]:
    """Open the lines beside the champion's."""
    wanted = [name for name in ARMS[1:] if name in options.arms]
    if not wanted:
        yield
        return
    with line(wanted[0], room, options, seed) as made:
        lines[wanted[0]] = made
        if len(wanted) == 1:
            yield
            return
        with line(wanted[1], room, options, seed) as more:
            lines[wanted[1]] = more
            yield


def summary(played: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Means over seeds, with their spread."""
    result: dict[str, Any] = {"clicks": options.clicks, "tier": options.tier, "seeds": len(played)}
    for name in ("base", "without", *ARMS):
        if name in played[0]:
            result[name] = {part: mean(one[name][part] for one in played) for part in played[0][name]}
    gains = [one["champion"]["all"] - one["base"]["all"] for one in played]
    result["gain"] = {"mean": mean(gains), "sd": spread(gains)}
    if "exploration" in played[0]:
        result["exploration"] = explored(played, gains)
    if "perfect_shown" in played[0]:
        most = [one["perfect_shown"]["all"] - one["base"]["all"] for one in played]
        shares = [gain / top for gain, top in zip(gains, most, strict=True) if top > 0]
        result["gain_fraction"] = {"mean": mean(shares), "sd": spread(shares)} if shares else None
    rounds = list(zip(*(one["rounds"] for one in played), strict=True))
    keys = ("precision", "recall", "coverage", *(("poisoned", "poisonable") if options.clicks == "poison" else ()))
    result["rounds"] = [{key: mean(one[key] for one in same) for key in keys} for same in rounds]
    result["seconds_per_round"] = mean(one["seconds"] for same in rounds for one in same)
    return result | {
        "by_seed": [{name: one[name] for name in ("base", "without", *ARMS) if name in one} for one in played]
    }


def explored(played: list[dict[str, Any]], gains: Sequence[float]) -> dict[str, Any]:
    """What exploration took and cost, and where it was played the gain without it beside that with it."""
    means: dict[str, Any] = {
        name: mean(one["exploration"][name] for one in played) for name in played[0]["exploration"]
    }
    if "without" not in played[0]:
        return means
    alone = [one["without"]["all"] - one["base"]["all"] for one in played]
    ratio = round(sum(gains) / sum(alone), 4) if sum(alone) > 0 else None
    return {**means, "gain_without": mean(alone), "gain_ratio": ratio}


def mean(values: Any) -> float:
    """Four digits of it."""
    return round(float(np.mean(list(values))), 4)


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation, where there are two."""
    return round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else None


def _setting(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def main() -> None:
    """Read the command line, run, print one JSON object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beir", type=Path, required=True, help="a collection with train and test splits")
    parser.add_argument("--clicks", choices=HABITS, default="pbm")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--sessions", type=int, default=8000, help="in each round")
    parser.add_argument("--tier", choices=get_args(TierChoice), default="query_tower")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--arms", default=",".join(ARMS), help="lines to train; champion always is")
    parser.add_argument("--holdout", type=float, default=0.0, help="score this share of the training queries instead")
    parser.add_argument("--explore", action="store_true", help="play it without exploration too, beside")
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--indexes", type=Path, help="keep document vectors here, and take them from here next time")
    options = parser.parse_args()
    options.arms = options.arms.split(",")
    room = Path(tempfile.mkdtemp(prefix="flywheel-learning-"))
    try:
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        played = [play_both(options, room, seed) for seed in seeds]
        print_result(summary(played, options), seeds)
    finally:
        shutil.rmtree(room, ignore_errors=True)


if __name__ == "__main__":
    main()
