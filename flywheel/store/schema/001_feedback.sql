-- What arrived: pages, what people did, documents, unreadable messages, and how far each topic was read.
-- The comment at a line's end becomes the column's comment, the one above a CREATE the table's (see migrations.py).

CREATE SEQUENCE document_changes START 1;

-- One page of results as it was shown, with the ranker and the experiment that made it.
CREATE TABLE queries (
    query_id VARCHAR NOT NULL, -- the page's id, given by whoever served it; events refer to it
    query_key VARCHAR NOT NULL, -- the text normalised: NFKC, case folded, white space collapsed; groups equal queries
    text VARCHAR NOT NULL, -- what the person typed
    ts TIMESTAMP NOT NULL, -- when the page was shown, by the sender's clock, UTC
    client_key VARCHAR, -- keyed hash of the client id (browser, device)
    user_key VARCHAR, -- keyed hash of the user id, where one was sent
    session_id VARCHAR, -- the sender's session
    hit_ids VARCHAR[], -- documents shown, rank 1 first; empty where the sender logs impressions as events
    model_version VARCHAR, -- the model version that ranked the page
    experiment_id VARCHAR, -- the experiment that the page was part of
    arm VARCHAR, -- the experiment's arm: champion, challenger or interleaved
    propensities FLOAT[], -- probability with which each hit was shown at its rank, where logged
    teams VARCHAR[], -- interleaved pages: the ranker that drafted each hit (champion, challenger or both)
    explored SMALLINT[], -- ranks, 1-based, that exploration filled
    latency_ms FLOAT, -- time that ranking took, milliseconds
    topic VARCHAR, -- topic that the message came from
    "partition" INTEGER, -- partition that the message came from
    "offset" BIGINT, -- the message's offset in its partition
    ingested_at TIMESTAMP NOT NULL, -- when the row was written, by this machine's clock, UTC
    batch BIGINT NOT NULL -- number of the transaction that wrote the row; grows
);

-- One thing a person did with a page or a document.
CREATE TABLE feedback (
    event_id VARCHAR NOT NULL, -- the event's id, or a hash of its content where it came without
    kind VARCHAR NOT NULL, -- impression, click, dwell, thumbs_up, thumbs_down, add_to_cart, purchase or other
    action_name VARCHAR, -- action_name as it was sent
    query_id VARCHAR, -- the page it refers to
    doc_id VARCHAR, -- the document it refers to
    rank INTEGER, -- position of the document on the page, 1-based
    dwell_ms BIGINT, -- time spent on the document, milliseconds; dwell events only
    ts TIMESTAMP NOT NULL, -- when it happened, by the sender's clock, UTC
    client_key VARCHAR, -- keyed hash of the client id
    user_key VARCHAR, -- keyed hash of the user id
    session_id VARCHAR, -- the sender's session
    topic VARCHAR, -- topic that the message came from
    "partition" INTEGER, -- partition that the message came from
    "offset" BIGINT, -- the message's offset in its partition
    ingested_at TIMESTAMP NOT NULL, -- when the row was written, by this machine's clock, UTC
    batch BIGINT NOT NULL -- number of the transaction that wrote the row; grows
);

-- One document shown on one page at one rank: the pages' hits, and impression events of pages that list none.
CREATE VIEW impressions (
    query_id, -- the page
    query_key, -- the page's normalised query text
    doc_id, -- the document shown
    rank, -- its position, 1-based
    ts, -- when it was shown, UTC
    client_key, -- keyed hash of the client id
    user_key, -- keyed hash of the user id
    session_id, -- the sender's session
    model_version, -- the model version that ranked the page
    experiment_id, -- the experiment that the page was part of
    arm, -- the experiment's arm
    propensity, -- probability with which the document was shown at this rank, where logged
    team, -- interleaved pages: the ranker that drafted the document
    explored -- true where exploration put it there
) AS
SELECT query_id, query_key, hit_ids[rank], rank, ts, client_key, user_key, session_id, model_version, experiment_id,
       arm, propensities[rank], teams[rank], coalesce(list_contains(explored, rank), false)
FROM (SELECT *, unnest(range(1, len(hit_ids) + 1))::INTEGER AS rank FROM queries WHERE len(hit_ids) > 0)
UNION ALL
SELECT q.query_id, q.query_key, f.doc_id, f.rank, f.ts, q.client_key, q.user_key, q.session_id, q.model_version,
       q.experiment_id, q.arm, NULL, NULL, false
FROM (SELECT query_id, doc_id, min(rank) AS rank, min(ts) AS ts FROM feedback
      WHERE kind = 'impression' AND doc_id IS NOT NULL GROUP BY query_id, doc_id) f
JOIN (SELECT * FROM queries WHERE coalesce(len(hit_ids), 0) = 0) q USING (query_id);

-- The latest version of each document.
CREATE TABLE documents (
    doc_id VARCHAR PRIMARY KEY, -- the document's id
    title VARCHAR NOT NULL, -- its title
    text VARCHAR NOT NULL, -- its text
    content_hash VARCHAR NOT NULL, -- hash of title and text as an encoder reads them
    deleted BOOLEAN NOT NULL, -- true: taken out of every index
    updated_at TIMESTAMP NOT NULL, -- the sender's time of this version, UTC; the latest wins
    ingested_at TIMESTAMP NOT NULL, -- when this version was written, UTC
    change_seq BIGINT NOT NULL -- grows with each change of content or deletion; what an index still has to read
);

-- Messages that could not be read, with their bytes.
CREATE TABLE dead_letters (
    topic VARCHAR NOT NULL, -- topic that the message came from
    "partition" INTEGER NOT NULL, -- partition that the message came from
    "offset" BIGINT NOT NULL, -- the message's offset in its partition
    payload BLOB NOT NULL, -- the message's bytes as they arrived
    reason VARCHAR NOT NULL, -- why it could not be read
    received_at TIMESTAMP NOT NULL -- when it was received, UTC
);

-- Where to go on reading; written in the same transaction as the rows.
CREATE TABLE ingest_offsets (
    cluster_id VARCHAR NOT NULL, -- the broker's cluster id; another cluster counts from its own start
    topic VARCHAR NOT NULL, -- topic
    "partition" INTEGER NOT NULL, -- partition
    next_offset BIGINT NOT NULL, -- offset of the first message not yet stored
    updated_at TIMESTAMP NOT NULL, -- when it last moved, UTC
    PRIMARY KEY (cluster_id, topic, "partition")
);

-- Totals of ingestion since the beginning, kept up to date by each transaction.
CREATE TABLE ingest_totals (
    name VARCHAR PRIMARY KEY, -- queries, events, documents, dead_letters, duplicates, erasures; batch: the last one's number; max_ts_ms: the latest event time; closing_ms: the one that closes windows; exported_*: how far that table's rows are in Parquet
    value BIGINT NOT NULL -- the total, number or epoch milliseconds
);

-- Small facts that must survive a restart, such as "paused".
CREATE TABLE state (
    name VARCHAR PRIMARY KEY, -- what it is
    value JSON NOT NULL, -- its value
    updated_at TIMESTAMP NOT NULL -- when it was set, UTC
);

-- Parquet files of the analytics folder: what has been exported, so that no row is doubled or lost.
CREATE TABLE exports (
    path VARCHAR PRIMARY KEY, -- the file, relative to the analytics folder
    source VARCHAR NOT NULL, -- table whose rows it holds
    day DATE NOT NULL, -- day (UTC) of its rows
    first_seq BIGINT NOT NULL, -- first batch (documents: change_seq) that it covers
    last_seq BIGINT NOT NULL, -- last batch (documents: change_seq) that it covers
    row_count BIGINT NOT NULL, -- rows in it
    written_at TIMESTAMP NOT NULL, -- when it was written, UTC
    stale BOOLEAN NOT NULL, -- true: rows were erased since; to be written anew
    retired_at TIMESTAMP -- when another file took its place; deleted some minutes later
);
