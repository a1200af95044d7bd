"""What searches and ingestion feel while the worst statements and bodies that we know are sent to the same daemon.

    python -m benchmarks.hostile --seconds 60

Starts an Apache Kafka and a daemon of its own. Each attack runs for so long; before them all, quiet is measured for as
long. Last line: one JSON object, with each attack's figures beside those of quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Daemon, Kafka, print_result
from flywheel.rehearsal import corpus
from flywheel.settings.home import Home

Attack = Callable[[httpx.Client], object]
CHILD = "statements/process.py"
PAUSE_SECONDS = 0.02  # between searches: latency is measured, not how many fit in
QUERIES = ("copy a list", "read a file line by line", "parse json", "sort by key", "retry a request", "date arithmetic")
STATEMENTS = {
    "range": "select range(1000000000)",
    "repeat": "select repeat('x', 4000000000)",
    "levenshtein": "select levenshtein(repeat('a', 300000), repeat('b', 300000))",
    "join": "select sum(hash(a.i + b.i)) from range(1000000) a(i), range(1000000) b(i)",
    "brackets": "(" * 1_000_000,
    "answer": "select repeat('x', 1000000) from range(480)",
}


def _statement(text: str) -> Attack:
    return lambda http: http.post("/v1/sql", json={"query": text})


def _objects(http: httpx.Client) -> object:
    body = b"[" + b",".join([b"{}"] * 300_000) + b"]"
    return http.post("/v1/ubi/queries", content=body, headers={"content-type": "application/json"})


def _values(http: httpx.Client) -> object:
    body = b'{"query": [' + b",".join([b"[]"] * 300_000) + b"]}"
    return http.post("/v1/search", content=body, headers={"content-type": "application/json"})


def _batches(http: httpx.Client) -> object:
    lines = b"\n".join(b'{"user_query": "q%d"}' % number for number in range(10_000))
    return http.post("/v1/ubi/queries", content=lines, headers={"content-type": "application/x-ndjson"})


ATTACKS: dict[str, Attack] = {name: _statement(text) for name, text in STATEMENTS.items()}
ATTACKS |= {"objects": _objects, "values": _values, "batches": _batches}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--attackers", type=int, default=4)
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flywheel-hostile-") as folder:
        kafka = Kafka(Path(folder) / "kafka")
        kafka.start()
        daemon = _daemon(Path(folder), kafka)
        try:
            figures = _measure(daemon, arguments.seconds, arguments.attackers, arguments.attacks.split(","))
        finally:
            daemon.kill()
            kafka.stop()
    print_result(figures, seeds=[])


def _daemon(folder: Path, kafka: Kafka) -> Daemon:
    home = folder / "home"
    Home(home).init()
    settings = {"kafka.bootstrap": kafka.bootstrap, "serving.port": "0", "retrain.enabled": "false"}
    daemon = Daemon(home, settings)
    documents = folder / "documents.jsonl"
    with documents.open("w", encoding="utf-8") as file:
        for document in corpus.build().documents[:500]:
            row = {"doc_id": document.doc_id, "title": document.title, "text": document.text[:500]}
            file.write(json.dumps(row) + "\n")
    daemon.flywheel("import", "documents", str(documents))
    daemon.start()
    return daemon


def _measure(daemon: Daemon, seconds: float, attackers: int, names: list[str]) -> dict[str, Any]:
    _run(daemon, 5, 0, lambda _: None)  # models and caches are warm before anything is measured
    quiet = _run(daemon, seconds, 0, lambda _: None)
    _say(f"quiet: {quiet}")
    attacks = {}
    for name in names:
        attacks[name] = _run(daemon, seconds, attackers, ATTACKS[name])
        _say(f"{name}: {attacks[name]}")
    worst = max(found["p99_ms"] for found in attacks.values())
    return {
        "seconds": seconds,
        "quiet": quiet,
        "attacks": attacks,
        "p99_ratio": round(worst / quiet["p99_ms"], 2),
        "daemon_grown_mb": max(found["daemon_mb"] for found in attacks.values()) - quiet["daemon_mb"],
        "statement_mb": max(found["statement_mb"] for found in attacks.values()),
        "ingested": all(found["ingested"] for found in attacks.values()),
    }


def _run(daemon: Daemon, seconds: float, attackers: int, attack: Attack) -> dict[str, Any]:
    """Search for so long beside the attack; latency in milliseconds, memory in megabytes."""
    stop = threading.Event()
    peaks = {"daemon_mb": 0, "statement_mb": 0}

    def hurt() -> None:
        with httpx.Client(base_url=daemon.url, timeout=90, trust_env=False) as http:
            while not stop.is_set():
                with suppress(httpx.HTTPError):
                    attack(http)

    def watch() -> None:
        pid = int(json.loads((daemon.home / "daemon.json").read_text("utf-8"))["pid"])
        while not stop.wait(0.05):
            peaks["daemon_mb"] = max(peaks["daemon_mb"], _anonymous_mb(pid))
            peaks["statement_mb"] = max([peaks["statement_mb"], *map(_anonymous_mb, _statements(pid))])

    before = daemon.flywheel("status")["ingest"]["queries"]
    threads = [threading.Thread(target=hurt, daemon=True) for _ in range(attackers)]
    threads.append(threading.Thread(target=watch, daemon=True))
    for thread in threads:
        thread.start()
    took = _search(daemon, seconds)
    after = daemon.flywheel("status")["ingest"]["queries"]
    stop.set()
    p50, p99 = np.percentile(np.array(took) * 1_000, [50, 99])
    figures = {"searches": len(took), "p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1)}
    for thread in threads:
        thread.join(90)
    return {**figures, **peaks, "ingested": after - before >= len(took) // 2}


def _search(daemon: Daemon, seconds: float) -> list[float]:
    took = []
    until = time.monotonic() + seconds
    with httpx.Client(base_url=daemon.url, timeout=60, trust_env=False) as http:
        while time.monotonic() < until:
            began = time.perf_counter()
            query = f"{QUERIES[len(took) % len(QUERIES)]} {len(took)}"  # none is answered from the cache of vectors
            answer = http.post("/v1/search", json={"query": query, "client_id": f"c{len(took) % 50}"})
            answer.raise_for_status()
            took.append(time.perf_counter() - began)
            time.sleep(PAUSE_SECONDS)
    return took


def _statements(pid: int) -> list[int]:
    """The daemon's children that answer statements."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in task.read_text("ascii").split()]
    return [child for child in found if CHILD in _command(child)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
    except OSError:
        return ""


def _anonymous_mb(pid: int) -> int:
    """Memory of its own: an answer that is mapped from a file is the kernel's to take back."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1_024


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    main()
