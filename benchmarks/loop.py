"""The whole wheel from outside: a product searches over HTTP, its events go to Kafka, and the daemon learns from them.

People search with the training queries only; a fifth of those, which nobody searches, is the gate's golden set; the
test split is touched by the last line alone. With `--kill N` the daemon is killed N times and started again.

    python benchmarks/loop.py --beir DIR --clicks pbm --rounds 4 --sessions 8000 --seed 0 --kill 20
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Daemon, Kafka, Killer, print_result
from flywheel.broker.producer import Producer
from flywheel.files.beir import Judged, read_split
from flywheel.rehearsal.people import HABITS, SILENT, People
from flywheel.rehearsal.product import Audience, BrokerEvents, HttpSearch, Played, play
from flywheel.settings.load import Kafka as KafkaSettings

GOLDEN_SHARE = 0.2
SETTLE_SECONDS = 300.0


@dataclass(frozen=True)
class Split:
    """Row numbers of the training queries: those that people search, and those of the golden set."""

    searched: list[int]
    golden: list[int]

    @classmethod
    def of(cls, queries: int, seed: int) -> Split:
        """A fifth, drawn at random, is golden."""
        order = np.random.default_rng([seed, 1]).permutation(queries)
        cut = int(queries * GOLDEN_SHARE)
        return cls([int(row) for row in order[cut:]], [int(row) for row in order[:cut]])


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def write_golden(folder: Path, judged: Judged, rows: list[int]) -> Path:
    """A BEIR folder with the judged queries of `rows` alone."""
    (folder / "qrels").mkdir(parents=True)
    with (folder / "queries.jsonl").open("w") as queries, (folder / "qrels/golden.tsv").open("w") as qrels:
        qrels.write("query-id\tcorpus-id\tscore\n")
        for row in rows:
            queries.write(json.dumps({"_id": judged.ids[row], "text": judged.texts[row]}) + "\n")
            for doc_id, grade in judged.judgements[row].items():
                qrels.write(f"{judged.ids[row]}\t{doc_id}\t{grade:g}\n")
    return folder


def audience(judged: Judged, rows: list[int]) -> Audience:
    """The people who search with the queries of `rows`."""
    relevant = [frozenset(doc for doc, grade in judged.judgements[row].items() if grade > 0) for row in rows]
    return Audience([judged.texts[row] for row in rows], relevant)


def settle(daemon: Daemon, played: Played) -> dict[str, int]:
    """Wait until everything that was acknowledged is stored, and compare id by id: lost, doubled."""
    if failed := played.settle():
        raise RuntimeError(f"the broker did not take {failed} events")
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        pages = daemon.flywheel("sql", "select query_id as id from queries", check=False)
        events = daemon.flywheel("sql", "select event_id as id from feedback", check=False)
        if pages is not None and events is not None:
            stored = [row["id"] for row in (*pages, *events)]
            lost = len((set(played.pages) | set(played.events)) - set(stored))
            if not lost or time.monotonic() > deadline:
                return {"stored": len(stored), "lost": lost, "doubled": len(stored) - len(set(stored))}
        time.sleep(0.5)


def cycle(daemon: Daemon, number: int) -> dict[str, Any]:
    """One turn of the wheel, asked for until it was taken; whoever dies meanwhile, its decision is waited for."""
    while True:
        answer = daemon.flywheel("cycle", "--wait", check=False)
        if answer is not None:
            return dict(answer["decision"])
        daemon.wait_ready()
        while (active := daemon.flywheel("status", check=False)) is None or active["cycle"]["running"]:
            time.sleep(0.5)
        decided = [row for row in daemon.flywheel("sql", "select * from decisions order by number") if row["run_id"]]
        if len(decided) > number:
            row = decided[number]
            return {"verdict": row["kind"], "reasons": row["reasons"], "spent": row["spent"]}


def rounds(daemon: Daemon, people: Audience, options: argparse.Namespace) -> tuple[Played, list[Any], dict[str, int]]:
    """Play every round and turn the wheel after each."""
    total, verdicts, counts = Played(), [], {"stored": 0, "lost": 0, "doubled": 0}
    client = HttpSearch(lambda: daemon.url)
    producer = Producer(KafkaSettings(bootstrap=options.bootstrap), delivery_seconds=120)
    habit = People(options.clicks, SILENT)
    for number in range(options.rounds):
        started = time.monotonic()
        sink = BrokerEvents(producer.send, "ubi.events")
        seed = options.seed * 1000 + number
        played = play(client, sink, people, habit, sessions=options.sessions, seed=seed)
        total.add(played)
        counts = settle(daemon, total)
        say(f"round {number + 1}: {len(played.pages)} pages, {len(played.events)} events, CTR {played.ctr:.3f}, "
            f"{time.monotonic() - started:.0f} s, {counts}")  # fmt: skip
        started = time.monotonic()
        decision = cycle(daemon, number)
        verdicts.append({"verdict": decision["verdict"], "reasons": decision["reasons"], "spent": decision["spent"]})
        say(f"round {number + 1}: {decision['verdict']} after {time.monotonic() - started:.0f} s: "
            f"{'; '.join(decision['reasons'])}")  # fmt: skip
    producer.close()
    return total, verdicts, counts


def audit(daemon: Daemon) -> dict[str, Any]:
    """What must hold after any number of kills: decisions once, models whole, no run stuck."""
    decided = daemon.flywheel("sql", "select count(*) n, count(distinct run_id) u from decisions where run_id <> ''")
    runs = daemon.flywheel("sql", "select count(*) n from training_runs where finished_at is null")
    folders = [path for path in (daemon.home / "models").iterdir() if path.is_dir()]
    half = [path.name for path in folders if not (path / "flywheel.json").exists()]
    return {"decisions_doubled": decided[0]["n"] - decided[0]["u"], "stuck_runs": runs[0]["n"], "half_models": half}


def run(options: argparse.Namespace, room: Path) -> dict[str, Any]:
    """The benchmark in a temporary folder."""
    started = time.monotonic()
    kafka = Kafka(room / "kafka")
    kafka.start()
    options.bootstrap = kafka.bootstrap
    settings = {
        "kafka.bootstrap": kafka.bootstrap,
        "serving.port": "0",
        "serving.page_log_timeout_ms": "20000",
        "limits.result_rows": "10000000",
        "retrain.enabled": "false",
        "trainer.seed": str(options.seed),
    }
    daemon = Daemon(room / "home", settings)
    killer = None
    try:
        judged = read_split(options.beir, "train")
        split = Split.of(len(judged), options.seed)
        daemon.flywheel("init")
        corpus = next(path for path in sorted(options.beir.glob("corpus.jsonl*")))
        imported = daemon.flywheel("import", "documents", str(corpus))
        golden = write_golden(room / "golden", judged, split.golden)
        daemon.flywheel("import", "golden", str(golden), "--split", "golden")
        say(f"{imported['stored']} documents, {len(split.searched)} queries to search, {len(split.golden)} golden")
        if options.indexes is not None and options.indexes.is_dir():
            shutil.copytree(options.indexes, daemon.home / "indexes", dirs_exist_ok=True)
        daemon.start()
        if options.indexes is not None:
            shutil.copytree(daemon.home / "indexes", options.indexes, dirs_exist_ok=True)
        say(f"ready after {time.monotonic() - started:.0f} s")
        if options.kill:
            waits = np.random.default_rng([options.seed, 2]).uniform(0.2, 2 * options.kill_every, options.kill)
            killer = Killer(daemon, [float(wait) for wait in waits])
            killer.start()
        played, verdicts, counts = rounds(daemon, audience(judged, split.searched), options)
        if killer is not None:
            killer.finish()
            daemon.wait_ready()
            counts = settle(daemon, played)
        result = report(daemon, options, verdicts)
        result |= {"events_sent": len(played.pages) + len(played.events), "events_stored": counts["stored"]}
        result |= {"lost": counts["lost"], "doubled": counts["doubled"], "kills": daemon.kills, **audit(daemon)}
        result["stop_seconds"] = round(daemon.stop(), 1)
    finally:
        if killer is not None:
            killer.finish()
        daemon.kill()
        kafka.stop()
    return result | {"seconds": round(time.monotonic() - started, 1)}


def report(daemon: Daemon, options: argparse.Namespace, verdicts: list[Any]) -> dict[str, Any]:
    """The last line's quality part; the only place that touches the test split."""
    found = {
        name: daemon.flywheel("evaluate", "--beir", str(options.beir), "--split", "test", "--model", name)
        for name in ("base", "champion")
    }
    promotions = sum(item["verdict"] == "promote" for item in verdicts)
    return {**found, "promotions": promotions, "verdicts": verdicts, "clicks": options.clicks, "seed": options.seed}


def main() -> None:
    """Read the command line, run, print one JSON object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beir", type=Path, required=True, help="a collection with train and test splits")
    parser.add_argument("--clicks", choices=HABITS, default="pbm")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--sessions", type=int, default=8000, help="in each round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill", type=int, default=0, help="how often the daemon is killed with SIGKILL")
    parser.add_argument("--kill-every", type=float, default=25.0, help="mean seconds between two kills")
    parser.add_argument("--indexes", type=Path, help="keep document vectors here, and take them from here next time")
    parser.add_argument("--keep", action="store_true", help="leave the home for a look afterwards")
    options = parser.parse_args()
    room = Path(tempfile.mkdtemp(prefix="flywheel-loop-"))
    try:
        print_result(run(options, room), [options.seed])
    finally:
        if options.keep:
            say(f"left in {room}")
        else:
            shutil.rmtree(room, ignore_errors=True)


if __name__ == "__main__":
    main()
