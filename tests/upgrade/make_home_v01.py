"""Makes the small home of version 0.1 that the upgrade test opens: `home-v0.1.tar.xz` and `home-v0.1.json` beside this.

Run as `python tests/upgrade/make_home_v01.py FLYWHEEL`, with FLYWHEEL the command of an environment that has version
0.1 installed (`git worktree add ../v0.1 103cba1 && make -C ../v0.1 setup`), by a Python that has transformers. All that
the home holds is that version's own work, through its commands: it trained, judged, promoted and rolled back. Only the
base model is made here, with random weights, since a real one would weigh 90 MB. Nothing else of this project is used.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ARCHIVE, LEDGER = HERE / "home-v0.1.tar.xz", HERE / "home-v0.1.json"
PARTS = ["valve", "rotor", "gasket", "sensor", "bearing", "filter"]
JARGON = ["flimbo", "quazzle", "drent", "spindrick", "yorvel", "brackum"]
FAULTS = ["leaks oil", "overheats fast", "makes noise", "fails cold", "vibrates", "corrodes"]
START, MINUTE = 1_760_000_000_000, 60_000
SETTINGS = """\
[kafka]
bootstrap = "127.0.0.1:9"

[serving]
port = 0

[signals]
watermark_minutes = 0.0
expected_precision = 0.5

[retrain]
enabled = false

[exploration]
enabled = false

[trainer]
tier = "adapter"
dev_share = 0.0
probes = 0
device = "cpu"
bf16 = "off"
max_seq_length = 32

[promotion]
stages = ["offline", "split"]
screen_alpha = 0.9
alpha = 0.4
margin = 0.5
min_queries = 4
min_unseen = 2
ramp = [0.5]
ramp_hours = 0.0
min_users = 30
min_days = 0.0
max_days = 2.0
look_seconds = 0.2
holdback = 0.0
"""
STATEMENTS = (
    "select count(*) as n, count(distinct query_key) as texts, min(ts) as first, max(ts) as last from queries",
    "select kind, count(*) as n, sum(dwell_ms) as dwell_ms from feedback group by kind order by kind",
    "select count(*) as n, min(rank) as first, max(rank) as last from impressions",
    "select doc_id, title, text from documents order by doc_id",
    "select run_id, count(*) as n, round(sum(weight), 6) as weight from pairs group by run_id order by run_id",
    "select run_id, state, version, parent, tier, pairs_new from training_runs order by run_id",
    "select version, tier, parent, index_id, state from models order by version",
    "select number, decision_id, kind, version, previous, alias, actor, len(reasons) as reasons from decisions "
    "order by number",
    "select experiment_id, version, champion, stage, state, verdict from experiments order by experiment_id",
    "select experiment_id, metric, part, verdict, round(effect, 6) as effect from ab_outcomes order by all",
)


def main(flywheel: str) -> None:
    """Make the home in a temporary folder, write down what it holds, and pack it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        command = Command([flywheel, "--home", str(home)], tiny_model(Path(folder) / "tiny"))
        furnish(command, home, Path(folder))
        live_through_an_experiment(command, home, Path(folder))
        command.answer("promote", "v1", "--reason", "a person looked at it")
        command.answer("rollback", "--reason", "and thought again")
        command.answer("promote", "v1", "--reason", "it was better after all")
        command.answer("pause")
        LEDGER.write_text(json.dumps(ledger(command, Path(folder)), indent=1) + "\n", "utf-8")
        pack(home, Path(folder))
    print(f"{ARCHIVE.stat().st_size / 1024:.0f} KiB in {ARCHIVE}")


class Command:
    """Version 0.1 on one home."""

    def __init__(self, words: list[str], base: Path) -> None:
        self.words = words
        self.environ = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "FLYWHEEL__TRAINER__BASE_MODEL": str(base),
            "LOGNAME": "ops",
        }

    def answer(self, *arguments: str) -> Any:
        """The JSON value that a command prints."""
        done = subprocess.run(
            [*self.words, *arguments, "--json"], env=self.environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)} failed: {done.stderr}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """The rows of a statement."""
        rows: list[dict[str, Any]] = self.answer("sql", statement)
        return rows


def furnish(command: Command, home: Path, folder: Path) -> None:
    """Documents, a golden set, and people who clicked; one turn of the wheel, whose version waits for the split."""
    command.answer("init")
    (home / "flywheel.toml").write_text(SETTINGS, "utf-8")
    judged = golden(folder / "golden")
    command.answer("import", "documents", str(judged / "corpus.jsonl"))
    command.answer("import", "golden", str(judged), "--name", "jargon")
    command.answer("import", "feedback", str(lines(folder / "feedback.ndjson", pages(400, seed=1))))
    turn = command.answer("cycle", "--wait")
    print(json.dumps(turn["decision"]["reasons"]), file=sys.stderr)


def live_through_an_experiment(command: Command, home: Path, folder: Path) -> None:
    """A daemon begins the split that the turn queued; people are split, until it has its verdict."""
    log = (folder / "daemon.log").open("wb")
    daemon = subprocess.Popen([*command.words, "run"], env=command.environ, stdout=log, stderr=log)
    try:
        until(lambda: (home / "daemon.json").exists())
        live = "select experiment_id from experiments where stage = 'split'"
        until(lambda: bool(command.sql(f"{live} and state = 'live'")))
        (row,) = command.sql(f"{live} and state = 'live'")
        for day in range(1, 4):
            tagged = pages(200, seed=1 + day, day=day, experiment=row["experiment_id"])
            command.answer("import", "feedback", str(lines(folder / f"day{day}.ndjson", tagged)))
        until(lambda: bool(command.sql(f"{live} and ended_at is not null")))
    finally:
        daemon.terminate()
        daemon.wait(120)


def until(there: Any) -> None:
    """Wait for it, ten minutes at most."""
    deadline = time.monotonic() + 600
    while not there():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.3)


def pages(
    count: int, *, seed: int, day: int = 0, experiment: str | None = None, faults: Sequence[int] = range(4)
) -> list[dict[str, Any]]:
    """Pages of eight hits in any order, and what people do: they look far down, and click what fits."""
    draw, records = random.Random(seed), []
    ids = [f"{part}-{number}" for part in PARTS for number in range(len(FAULTS))]
    for number in range(count):
        asked, fault = draw.randrange(len(PARTS)), draw.choice(faults)
        right = f"{PARTS[asked]}-{fault}"
        shown = draw.sample(sorted({right, *draw.sample(ids, 10)}), 8)
        person = draw.randrange(120)
        page: dict[str, Any] = {"query_id": f"s{seed}-{number}", "client_id": f"c{person}"}
        stamp = START + day * 1440 * MINUTE + number * MINUTE
        attributes = {}
        if experiment is not None:
            arm = ("champion", "challenger")[person % 2]
            attributes = {"experiment_id": experiment, "arm": arm, "model_version": ("base", "v1")[person % 2]}
        text = f"{JARGON[asked]} {FAULTS[fault]}"
        fields = {"user_query": text, "timestamp": stamp, "query_response_hit_ids": shown}
        records.append({**page, **fields, "query_attributes": attributes})
        for rank, doc_id in enumerate(shown, 1):
            clicked = draw.random() < (0.9 if doc_id == right else 0.03) * (1.0 if rank < 4 else 0.6)
            if clicked:
                target = {"object": {"object_id": doc_id}, "position": {"ordinal": rank}}
                records.append(event(page, "click", stamp + 1_000, target, f"c{rank}"))
                if doc_id == right:
                    records.append(event(page, "dwell", stamp + 2_000, {**target, "dwell_ms": 45_000}, f"d{rank}"))
                elif draw.random() < 0.5:
                    records.append(event(page, "thumbs_down", stamp + 3_000, target, f"t{rank}"))
    return records


def event(page: dict[str, Any], action: str, stamp: int, about: dict[str, Any], name: str) -> dict[str, Any]:
    """One UBI event on a page."""
    attributes = {**about, "event_id": f"{page['query_id']}-{name}"}
    return {**page, "action_name": action, "timestamp": stamp, "event_attributes": attributes}


def golden(folder: Path) -> Path:
    """A judged collection in BEIR's layout: the jargon of every part, with the faults that nobody searched for too."""
    (folder / "qrels").mkdir(parents=True)
    documents = [
        {"_id": f"{part}-{number}", "title": part, "text": f"the {part} {fault}", "updated_at": "2025-01-01T00:00:00Z"}
        for part in PARTS
        for number, fault in enumerate(FAULTS)
    ]
    lines(folder / "corpus.jsonl", documents)
    asked = [(f"{word}-{n}", f"{word} {fault}", f"{part}-{n}") for word, part in zip(JARGON, PARTS, strict=True)
             for n, fault in enumerate(FAULTS)]  # fmt: skip
    lines(folder / "queries.jsonl", [{"_id": key, "text": f"please: {text}"} for key, text, _ in asked])
    rows = [f"{key}\t{doc_id}\t1" for key, _, doc_id in asked]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(rows) + "\n")
    return folder


def lines(path: Path, records: list[dict[str, Any]]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def tiny_model(folder: Path) -> Path:
    """A one-layer BERT of 32 dimensions with random weights over the words of this world."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    words = sorted({*" ".join([*PARTS, *JARGON, *FAULTS]).split(), "the", "please", ":"})
    source = folder.with_name("bert")
    source.mkdir()
    (source / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    tokenizer = BertTokenizerFast(str(source / "vocab.txt"))
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **shape)).save_pretrained(source)
    tokenizer.save_pretrained(source)
    tower = Transformer(str(source), max_seq_length=32)
    SentenceTransformer(modules=[tower, Pooling(32), Normalize()], device="cpu").save(str(folder))
    return folder


def ledger(command: Command, folder: Path) -> dict[str, Any]:
    """What the home holds, as version 0.1 itself tells it."""
    fields = ("version", "alias", "tier", "parent", "index_id")
    models = [{key: row[key] for key in fields} for row in command.answer("models")]
    status = command.answer("status")
    ingest = {key: status["ingest"][key] for key in ("events", "queries", "dead_letters")}
    return {
        "sql": [{"statement": statement, "rows": command.sql(statement)} for statement in STATEMENTS],
        "models": models,
        "status": {"ingest": ingest, "champion": status["champion"], "paused": status["cycle"]["paused"]},
        "evaluate": command.answer("evaluate", "--beir", str(folder / "golden"), "--split", "test"),
    }


def pack(home: Path, folder: Path) -> None:
    """The home, but for logs and snapshots, and the judged collection."""
    files = [path for root in (home, folder / "golden") for path in sorted(root.rglob("*")) if path.is_file()]
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for path in files:
            inside = path.relative_to(folder)
            if inside.parts[1] in {"logs", "snapshots"}:
                continue
            info = archive.gettarinfo(str(path), str(inside))
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            with path.open("rb") as file:
                archive.addfile(info, file)


if __name__ == "__main__":
    main(sys.argv[1])
