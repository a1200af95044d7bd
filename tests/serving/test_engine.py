"""Pages: what is on them, what is logged of them, and that models change under them without a seam."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from consumers.decode import Decoder
from flywheel.serving.engine import NothingLive
from flywheel.serving.ranking import Filters
from flywheel.serving.served import Live, LiveExperiment, Placement, Ranker
from flywheel.settings.load import Serving, Signals
from tests.serving.house import DOCUMENTS, House, MemoryTitles, WordEncoder, eventually, make_engine, make_index, serve


def logged(house: House) -> list:
    """What the ingest reads from the pages on the broker."""
    decoder = Decoder(Signals(), hash_id=lambda identity: f"#{identity}", max_bytes=1_000_000)
    return [decoder.query(payload) for payload in house.broker.held["queries"]]


def test_the_best_document_comes_first_with_its_title_and_score(house: House) -> None:
    """Hits are in the order of the exact inner products, with titles, and the answer has the contract's keys."""
    answer = house.http.post("/v1/search", json={"query": "deep copy", "k": 3}).json()
    expected = house.encoder.encode_documents(list(DOCUMENTS.values())) @ house.encoder.encode_queries(["deep copy"])[0]
    order = np.argsort(-expected)[:3]
    assert [hit["doc_id"] for hit in answer["hits"]] == [list(DOCUMENTS)[row] for row in order]
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx(expected[order].tolist(), abs=1e-6)
    assert answer["hits"][0] == {
        "doc_id": "deepcopy",
        "score": answer["hits"][0]["score"],
        "title": DOCUMENTS["deepcopy"],
    }
    assert {key: answer[key] for key in ("model_version", "index_id", "experiment_id", "arm")} == {
        "model_version": "base",
        "index_id": "space-1",
        "experiment_id": None,
        "arm": None,
    }


def test_the_page_is_on_the_broker_as_the_ingest_reads_it(house: House) -> None:
    """The logged page has the query, the person, the hits in order, the model, the time and the latency."""
    body = {"query": " sort a list ", "k": 2, "client_id": 17, "session_id": "s1"}
    answer = house.http.post("/v1/search", json=body).json()
    (page,) = logged(house)
    assert (page.query_id, page.text, page.client_key, page.session_id) == (
        answer["query_id"],
        "sort a list",
        "#17",
        "#s1",
    )
    assert page.hit_ids == tuple(hit["doc_id"] for hit in answer["hits"])
    assert (page.model_version, page.timestamp_ms, page.latency_ms) == ("base", 1_700_000_000_123, 1_000.0)
    assert json.loads(house.broker.held["queries"][0])["query_attributes"]["index_id"] == "space-1"


def test_a_broker_that_is_away_delays_a_page_a_little_and_loses_none() -> None:
    """Searches are answered while the broker refuses, and their pages arrive once it is back, each once."""
    with serve(settings=Serving(page_log_timeout_ms=20)) as house:
        house.broker.down = True
        ids = [house.http.post("/v1/search", json={"query": "sort"}).json()["query_id"] for _ in range(3)]
        assert "flywheel_pages_late_total 3.0" in house.http.get("/metrics").text
        house.broker.down = False
        eventually(lambda: len(house.broker.held["queries"]) == 3)
        assert [page.query_id for page in logged(house)] == ids


def test_deleted_documents_are_hidden_however_many_they_are() -> None:
    """What has no title is deleted: it leaves the page, and the page fills up with what comes after."""
    encoder = WordEncoder()
    documents = {f"d{number}": f"word{number} text" for number in range(300)}
    titles = MemoryTitles({"d7": "seven", "d280": "two hundred and eighty"})
    engine = make_engine(titles, Live("base", encoder, make_index(encoder, documents)))
    assert {hit.doc_id for hit in engine.search("text", 10).hits} == {"d7", "d280"}
    assert len(engine.search("text", 1).hits) == 1


def test_filters_rank_exactly_what_they_allow(house: House) -> None:
    """An allow-list gives the listed documents in order of score, skips unknown ids, and may be empty."""
    body = {"query": "deep copy", "filters": {"doc_ids": ["csv", "ghost", "copy", "csv"]}}
    assert [hit["doc_id"] for hit in house.http.post("/v1/search", json=body).json()["hits"]] == ["copy", "csv"]
    body = {"query": "deep copy", "filters": {"doc_ids": []}}
    assert house.http.post("/v1/search", json=body).json()["hits"] == []
    refused = house.http.post("/v1/search", json={"query": "x", "filters": {"colour": "red"}})
    assert (refused.status_code, "filters.colour" in refused.json()["error"]["message"]) == (400, True)


@pytest.mark.parametrize(
    "body",
    [{}, {"query": ""}, {"query": " \n"}, {"query": "x" * 4_097}, {"query": "x", "k": 0}, {"query": "x", "k": 1_001},
     {"query": ["x"]}, {"query": "x", "client_id": "c" * 201}, [], "x"],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_with_the_fields_name(house: House, body: object) -> None:
    """Empty, long and mistyped requests answer 400, and no page is logged."""
    refused = house.http.post("/v1/search", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    assert house.broker.held["queries"] == []


def test_before_a_model_is_there_the_answer_says_so() -> None:
    """Search and embeddings answer 503 with a time to come back."""
    with serve(live=False) as house:
        for path, body in (("/v1/search", {"query": "x"}), ("/v1/embeddings", {"input": "x"})):
            refused = house.http.post(path, json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
            assert refused.headers["retry-after"] == "5"
    with pytest.raises(NothingLive):
        make_engine(MemoryTitles({}), None).search("x", 1)


def test_a_swap_changes_model_and_index_together_while_people_search(house: House) -> None:
    """No page mixes two states: version and index always belong together, and after the swap all pages are new."""
    other = WordEncoder(tilt=1)
    index = make_index(WordEncoder())
    index.index_id = "space-2"
    lives = [Live("base", house.encoder, house.index), Live("m2", other, index)]
    stop = threading.Event()

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            house.engine.swap(lives[turn % 2])

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        pages = [house.engine.search(f"copy {number % 7}", 2) for number in range(300)]
    finally:
        stop.set()
        swapper.join()
    assert {(page.model_version, page.index_id) for page in pages} <= {("base", "space-1"), ("m2", "space-2")}
    house.engine.swap(lives[1])
    assert house.http.post("/v1/search", json={"query": "copy"}).json()["model_version"] == "m2"


def test_a_crowd_of_searches_shares_the_encoder(house: House) -> None:
    """Eighty searches at once are all right, encode one at a time in fewer batches, and repeat from memory."""
    queries = [f"sort number{i % 20}" for i in range(80)]
    with ThreadPoolExecutor(16) as pool, httpx.Client(base_url=house.url, timeout=30) as http:
        answers = list(pool.map(lambda query: http.post("/v1/search", json={"query": query}).json(), queries))
    for query, answer in zip(queries, answers, strict=True):
        best = house.engine.search(query, 1).hits[0]
        assert answer["hits"][0]["doc_id"] == best.doc_id
    assert house.engine.counts()["vector_cache_hits"] >= 80
    assert sum(house.encoder.batches) <= 80


class PutsLast:
    """Explores by putting one document at the last rank."""

    def __init__(self, doc_id: str) -> None:
        self.doc_id = doc_id

    def place(self, query: str, hits: tuple[str, ...], *, page: str) -> Placement | None:
        return Placement((*hits[:-1], self.doc_id), (len(hits),), (1.0,) * (len(hits) - 1) + (0.25,))


def test_exploration_is_shown_and_logged_with_its_propensity(house: House) -> None:
    """The explored document stands where it was put, and the ingest reads its rank and propensity."""
    house.engine.swap(Live("base", house.encoder, house.index, explorer=PutsLast("retry")))
    answer = house.http.post("/v1/search", json={"query": "deep copy", "k": 2}).json()
    (page,) = logged(house)
    assert answer["hits"][-1]["doc_id"] == "retry" == page.hit_ids[-1]
    assert answer["hits"][-1]["title"] == DOCUMENTS["retry"]
    assert (page.explored, page.propensities) == ((2,), (1.0, 0.25))


def test_exploration_never_shows_what_is_deleted(house: House) -> None:
    """A placement of a deleted document leaves the page as it was."""
    house.engine.swap(Live("base", house.encoder, house.index, explorer=PutsLast("gone")))
    page = house.engine.search("deep copy", 2)
    assert ("gone" in [hit.doc_id for hit in page.hits], page.explored, page.propensities) == (False, (), None)


def test_exploration_keeps_out_of_filtered_pages(house: House) -> None:
    """What a filter leaves out is never put back; such a page logs no propensities, and that it was filtered."""
    house.engine.swap(Live("base", house.encoder, house.index, explorer=PutsLast("retry")))
    answer = house.http.post(
        "/v1/search", json={"query": "deep copy", "k": 2, "filters": {"doc_ids": ["copy", "sort"]}}
    )
    (page,) = logged(house)
    assert {hit["doc_id"] for hit in answer.json()["hits"]} == {"copy", "sort"}
    assert (page.explored, page.propensities, page.filtered) == ((), None, True)


def test_an_explored_document_has_its_own_score(house: House) -> None:
    """The score beside it is the model's, not a made-up one."""
    house.engine.swap(Live("base", house.encoder, house.index, explorer=PutsLast("retry")))
    hit = house.engine.search("deep copy", 2).hits[-1]
    query, document = house.encoder.encode_queries(["deep copy"]), house.index.vectors(["retry"])
    assert hit.score == pytest.approx(float((query @ document.T)[0, 0]), abs=1e-6)


def trial(house: House, method: str, share: float) -> None:
    challenger = Ranker("m2", WordEncoder(tilt=3), house.index)
    live = Live("base", house.encoder, house.index, challenger, LiveExperiment("e1", method, share))  # type: ignore[arg-type]
    house.engine.swap(live)


def test_a_split_sends_each_person_to_one_arm(house: House) -> None:
    """Half of the people meet the challenger, always the same half, and pages say which model made them."""
    trial(house, "split", 0.5)
    first = [house.engine.search("copy", 2, client_id=f"c{i}") for i in range(200)]
    again = [house.engine.search("other words", 2, client_id=f"c{i}") for i in range(200)]
    assert [page.arm for page in first] == [page.arm for page in again]
    assert 70 < sum(page.arm == "challenger" for page in first) < 130
    assert {(page.arm, page.model_version, page.experiment_id) for page in first} == {
        ("champion", "base", "e1"),
        ("challenger", "m2", "e1"),
    }


def test_interleaved_pages_say_who_drafted_each_hit(house: House) -> None:
    """Every hit has its team, the page is the champion's in name, and the same person sees the same page again."""
    trial(house, "interleaving", 1.0)
    answer = house.http.post("/v1/search", json={"query": "deep copy", "k": 4, "client_id": "c1"}).json()
    (page,) = logged(house)
    assert (answer["arm"], answer["experiment_id"], answer["model_version"]) == ("interleaved", "e1", "base")
    assert page.teams is not None
    assert (len(page.teams), set(page.teams) <= {"champion", "challenger", "both"}) == (4, True)
    assert len(set(page.hit_ids)) == 4
    twice = [house.engine.search("deep copy", 4, client_id="c1") for _ in range(2)]
    assert {tuple(hit.doc_id for hit in page.hits) for page in twice} == {page.hit_ids}


def test_people_without_a_name_take_no_part(house: House) -> None:
    """Neither client nor session: the champion's page, outside the experiment."""
    trial(house, "split", 1.0)
    page = house.engine.search("copy", 2)
    assert (page.arm, page.experiment_id, page.model_version) == (None, None, "base")
    assert house.engine.search("copy", 2, session_id="s").arm == "challenger"


def test_filters_hold_in_both_arms(house: House) -> None:
    """Interleaving draws from the allowed documents alone."""
    trial(house, "interleaving", 1.0)
    page = house.engine.search("copy", 5, client_id="c", filters=Filters(("csv", "json")))
    assert {hit.doc_id for hit in page.hits} == {"csv", "json"}
