"""Whole turns of the wheel on a small world: what is promoted, what is not, and what is on record afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.references import ranked
from flywheel.app import open_local
from flywheel.operations import OperationError
from tests.integration.world import search_and_click


@pytest.mark.timeout(1_800)  # a whole turn, on a machine that may be busy
def test_clicks_become_a_promoted_champion_that_plain_sentence_transformers_loads(
    home: Path, environ: dict[str, str]
) -> None:
    """One turn trains on the clicks, passes the gate, switches, and can be rolled back at once."""
    with open_local(home, environ) as operations:
        answer = operations.cycle(wait=True)
        assert answer["decision"]["verdict"] == "promote", answer["decision"]["reasons"]
        assert answer["training_run"]["state"] == "done"
        champion = next(model for model in operations.models() if model["alias"] == "champion")
        assert champion["version"] == answer["candidate"] == "v1"
        assert champion["index_id"] == operations.models()[0]["index_id"], "the query tower keeps the index"
        outcomes = operations.sql("select * from ab_outcomes").to_pylist()
        assert {(row["part"], row["metric"]) for row in outcomes} >= {("all", "ndcg@10"), ("unseen", "recall@10")}
        ours = ranked(operations._in, ["how do I copy a list"], 5)
        assert operations.rollback("just to see", "test")["champion"] == "base"
        kinds = [row["kind"] for row in operations.sql("select kind from decisions order by number").to_pylist()]
        assert kinds == ["initial", "promote", "rollback"]
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(champion["path"], device="cpu")
    with open_local(home, environ) as operations:
        operations.promote("v1", "again", "test")
        contents = operations.sql("select doc_id, trim(title || ' ' || text) as text from documents").to_pylist()
    documents = plain.encode_document([row["text"] for row in contents], normalize_embeddings=True)
    query = plain.encode_query(["how do I copy a list"], normalize_embeddings=True)
    best = [contents[int(row)]["doc_id"] for row in np.argsort(-(documents @ query[0]))[:5]]
    assert len(set(best) & set(ours[0])) >= 4, "plain library and Flywheel rank alike, but for bfloat16"


@pytest.mark.slow
def test_a_second_turn_on_the_same_evidence_replays_what_the_champion_learned(
    home: Path, environ: dict[str, str]
) -> None:
    """The champion's own pairs are no news. Only those count that its better scores add; the decision is one more."""
    with open_local(home, environ) as operations:
        first = operations.cycle(wait=True)["training_run"]
        again = operations.cycle(wait=True)
        assert again["training_run"]["parent"] == "v1"
        assert again["training_run"]["pairs_new"] < 0.5 * first["pairs_new"]
        assert again["training_run"]["pairs_replay"] > 0.5 * first["pairs_new"]
        champion = "v2" if again["decision"]["verdict"] == "promote" else "v1"
        assert operations.status()["champion"]["version"] == champion


def test_random_clicks_promote_nothing_and_say_why(silent: Path, environ: dict[str, str], tmp_path: Path) -> None:
    """Clicks spread evenly over the page carry no relevance; the answer says so."""
    fresh = Path(shutil.copytree(silent, tmp_path / "random"))
    with open_local(fresh, environ) as operations:
        assert operations.sql("select count(*) as n from queries").to_pylist() == [{"n": 0}]
        search_and_click(operations, "random", seed=1)
        decision = operations.cycle(wait=True)["decision"]
        assert operations.status()["champion"]["version"] == "base"
    assert decision["verdict"] != "promote"
    assert "relevant" in json.dumps(decision["reasons"])


def test_what_cannot_be_done_is_refused_with_the_fix(home: Path, environ: dict[str, str]) -> None:
    """An unknown version, a rollback from the first champion and hostile SQL each name what to do instead."""
    with open_local(home, environ) as operations:
        with pytest.raises(OperationError, match="base"):
            operations.promote("v99", "why not", "test")
        with pytest.raises(OperationError, match="first champion"):
            operations.rollback("why not", "test")
        with pytest.raises(OperationError, match="refused"):
            operations.sql("drop table queries")
