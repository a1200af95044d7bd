-- What was learned: pairs, whom we did not listen to, click curves, models, and the runs that made them.

-- One (query, document) of one training run with its label and where that came from.
CREATE TABLE pairs (
    run_id VARCHAR NOT NULL, -- the training run
    query_key VARCHAR NOT NULL, -- normalised query text
    query VARCHAR NOT NULL, -- query text that is trained on
    doc_id VARCHAR NOT NULL, -- the document
    label VARCHAR NOT NULL, -- positive, ambiguous (masked out of the loss) or negative
    weight FLOAT NOT NULL, -- weight in the loss
    posterior FLOAT, -- probability that the document is relevant, after all evidence
    impressions DOUBLE, -- impressions that count, after caps and age decay
    clicks DOUBLE, -- clicks that count, weighted by dwell
    satisfied BIGINT, -- clicks with a dwell above satisfied_ms
    bounced BIGINT, -- clicks with a dwell below bounce_ms
    thumbs_up BIGINT, -- thumbs up
    thumbs_down BIGINT, -- thumbs down
    carts BIGINT, -- add_to_cart events
    purchases BIGINT, -- purchase events
    users BIGINT, -- distinct people behind the evidence
    first_ts TIMESTAMP, -- earliest evidence, UTC
    last_ts TIMESTAMP, -- latest evidence, UTC
    model_versions VARCHAR[], -- versions that ranked the pages of the evidence
    source VARCHAR -- clicks, explicit or replay
);

-- Users whose behaviour was left out of a run's evidence, and why.
CREATE TABLE excluded_users (
    run_id VARCHAR NOT NULL, -- the training run
    user_key VARCHAR NOT NULL, -- keyed hash of the user or client
    reason VARCHAR NOT NULL, -- what gave it away
    impressions BIGINT, -- documents it was shown
    clicks BIGINT, -- its clicks
    dwells BIGINT -- its dwell events
);

-- What a run's click model learned about ranks.
CREATE TABLE click_curves (
    run_id VARCHAR NOT NULL, -- the training run
    rank SMALLINT NOT NULL, -- position, 1-based
    context SMALLINT NOT NULL, -- further up the page: 0 no click (or contexts not told apart), 1 clicks, none on a likely relevant document, 2 one on such a document
    relevant_rate DOUBLE, -- click rate of a relevant document here
    irrelevant_rate DOUBLE, -- click rate of an irrelevant document here
    impressions DOUBLE, -- impressions that the rates rest on
    note VARCHAR -- fallback or warning, if any
);

-- Every model version, kept or not.
CREATE TABLE models (
    version VARCHAR PRIMARY KEY, -- the version's name
    tier VARCHAR NOT NULL, -- base, adapter, query_tower or full
    parent VARCHAR, -- version that training started from
    path VARCHAR NOT NULL, -- the model's directory
    index_id VARCHAR NOT NULL, -- vector space of its documents; vectors of two spaces never meet
    created_at TIMESTAMP NOT NULL, -- when it was made, UTC
    run_id VARCHAR, -- training run that made it
    state VARCHAR NOT NULL, -- candidate, queued, challenger, champion, rejected, retired or failed
    metrics JSON -- its figures
);

-- Which version has which role now.
CREATE TABLE aliases (
    alias VARCHAR PRIMARY KEY, -- champion or challenger
    version VARCHAR NOT NULL, -- the version
    since TIMESTAMP NOT NULL, -- since when, UTC
    decision_id VARCHAR -- the decision that set it
);

-- One turn of the wheel: what started it, how far it came, what came out.
CREATE TABLE training_runs (
    run_id VARCHAR PRIMARY KEY, -- the run
    trigger VARCHAR NOT NULL, -- what asked for it: manual, cron or a threshold's name
    tier VARCHAR NOT NULL, -- what it trains
    state VARCHAR NOT NULL, -- started, evidence, training, gate, done, failed or refused
    started_at TIMESTAMP NOT NULL, -- when it began, UTC
    finished_at TIMESTAMP, -- when it ended, UTC
    parent VARCHAR, -- the champion at its start
    version VARCHAR, -- the version that it makes
    snapshot VARCHAR, -- folder of its training data
    seed BIGINT, -- random seed
    pairs_new BIGINT, -- pairs of new evidence
    pairs_replay BIGINT, -- pairs replayed from earlier runs
    report JSON, -- the trainer's report
    error VARCHAR, -- why it failed or was refused
    until_ts TIMESTAMP -- event time up to which feedback was taken, UTC
);

-- Who holds the right to run; one row a lock.
CREATE TABLE locks (
    name VARCHAR PRIMARY KEY, -- the lock
    owner VARCHAR NOT NULL, -- token of the process that took it; another process's token is a crash's leftover
    run_id VARCHAR, -- the run that it was taken for
    taken_at TIMESTAMP NOT NULL -- when, UTC
);

-- Every check of a retrain threshold, fired or not: why it did, or did not, retrain.
CREATE TABLE trigger_checks (
    ts TIMESTAMP NOT NULL, -- when it was checked, UTC
    name VARCHAR NOT NULL, -- the threshold
    value DOUBLE, -- what was measured; null: could not be
    threshold DOUBLE, -- what it was compared with
    fired BOOLEAN NOT NULL, -- true: it asks for a training
    note VARCHAR -- in words
);
