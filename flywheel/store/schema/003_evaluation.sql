-- What was judged and decided: golden sets, experiments and their sums, verdicts.

CREATE SEQUENCE decision_numbers START 1;

-- Who or what promoted, rejected or rolled back what, on which evidence. Rows are only ever added.
CREATE TABLE decisions (
    decision_id VARCHAR PRIMARY KEY, -- the decision; deciding it twice changes nothing
    ts TIMESTAMP NOT NULL, -- when, UTC
    kind VARCHAR NOT NULL, -- initial, promote, reject, inconclusive, manual or rollback
    version VARCHAR, -- the version that it is about
    previous VARCHAR, -- the champion until then
    actor VARCHAR NOT NULL, -- flywheel, or the person who asked
    run_id VARCHAR, -- training run that made the version
    experiment_id VARCHAR, -- experiment that it rests on
    reasons VARCHAR[] NOT NULL, -- why, in words
    evidence JSON NOT NULL, -- the figures that it rests on
    spent DOUBLE NOT NULL, -- error budget that it spent
    alias VARCHAR, -- the alias that it switched; null: none
    number BIGINT NOT NULL, -- order of deciding
    announced_at TIMESTAMP -- when the broker had the announcement, UTC; null: none due, or still to be sent
);

-- One comparison of a challenger with the champion.
CREATE TABLE experiments (
    experiment_id VARCHAR PRIMARY KEY, -- the experiment
    run_id VARCHAR, -- training run that made the challenger
    version VARCHAR NOT NULL, -- the challenger
    champion VARCHAR NOT NULL, -- what it is compared with
    stage VARCHAR NOT NULL, -- offline, shadow, interleaving or split
    state VARCHAR NOT NULL, -- queued, live, decided, expired or stopped
    created_at TIMESTAMP NOT NULL, -- when it was asked for, UTC
    started_at TIMESTAMP, -- when it began, UTC
    ended_at TIMESTAMP, -- when it ended, UTC
    share DOUBLE, -- the challenger's share of users now
    alpha DOUBLE, -- error that its verdict may spend
    verdict VARCHAR, -- promote, reject or inconclusive; null: still open
    reasons VARCHAR[], -- why, in words
    progress JSON -- running sums and the state of its sequential tests
);

-- One experiment's sums by day, arm and metric.
CREATE TABLE experiment_daily (
    experiment_id VARCHAR NOT NULL, -- the experiment
    day DATE NOT NULL, -- day (UTC) of the pages
    arm VARCHAR NOT NULL, -- champion or challenger
    metric VARCHAR NOT NULL, -- what is counted, for example ctr or satisfied_ctr
    users BIGINT NOT NULL, -- people in the arm on that day
    pages BIGINT NOT NULL, -- pages they saw
    pages_sq DOUBLE, -- sum over users of pages squared
    total DOUBLE NOT NULL, -- the metric's numerator
    total_sq DOUBLE, -- sum over users of the numerator squared
    total_pages DOUBLE, -- sum over users of numerator times pages
    PRIMARY KEY (experiment_id, day, arm, metric)
);

-- The verdict on one metric of one experiment, with the sums that reproduce it. A unit is a user (live) or a group of
-- judged queries (offline); a unit has pages (its weight) and a total of the metric under each arm.
CREATE TABLE ab_outcomes (
    experiment_id VARCHAR NOT NULL, -- the experiment
    stage VARCHAR NOT NULL, -- offline, shadow, interleaving or split
    metric VARCHAR NOT NULL, -- the metric, for example recall@10 or satisfied_ctr
    part VARCHAR NOT NULL, -- all, seen (documents that training touched), unseen, or an anchor set's name
    design VARCHAR NOT NULL, -- paired: each unit saw both arms; split: each unit saw one
    champion_users BIGINT NOT NULL, -- units that the champion served
    challenger_users BIGINT NOT NULL, -- units that the challenger served
    champion_pages DOUBLE NOT NULL, -- their pages (offline: judged queries)
    challenger_pages DOUBLE NOT NULL, -- their pages
    champion_pages_sq DOUBLE NOT NULL, -- sum over units of pages squared
    challenger_pages_sq DOUBLE NOT NULL, -- sum over units of pages squared
    champion_sum DOUBLE NOT NULL, -- sum of the metric under the champion
    challenger_sum DOUBLE NOT NULL, -- sum of the metric under the challenger
    champion_sum_sq DOUBLE NOT NULL, -- sum over units of the metric squared
    challenger_sum_sq DOUBLE NOT NULL, -- sum over units of the metric squared
    champion_sum_pages DOUBLE NOT NULL, -- sum over units of metric times pages
    challenger_sum_pages DOUBLE NOT NULL, -- sum over units of metric times pages
    cross_sum DOUBLE, -- paired only: sum over units of the champion's total times the challenger's
    effect DOUBLE, -- challenger's mean minus champion's mean by page; null: no answer
    relative_effect DOUBLE, -- effect divided by the champion's mean
    low DOUBLE, -- lower end of the interval of the effect
    high DOUBLE, -- upper end of the interval of the effect
    level DOUBLE, -- confidence of the interval, for example 0.95
    critical DOUBLE, -- the interval is effect plus and minus this many standard errors
    p_value DOUBLE, -- for tests that look once
    e_value DOUBLE, -- for tests that may look at any time
    verdict VARCHAR NOT NULL, -- better, worse, not_worse or inconclusive
    reasons VARCHAR[] NOT NULL, -- why, in words
    updated_at TIMESTAMP NOT NULL, -- when it was computed, UTC
    PRIMARY KEY (experiment_id, stage, metric, part)
);

-- Imported sets of judged queries, versioned by their content.
CREATE TABLE golden_sets (
    version VARCHAR PRIMARY KEY, -- hash of the set's queries and judgements
    name VARCHAR NOT NULL, -- its name; the latest import of a name is the current one
    kind VARCHAR NOT NULL, -- golden (a gain is looked for) or anchor (no loss is allowed)
    imported_at TIMESTAMP NOT NULL, -- when, UTC
    query_count BIGINT NOT NULL, -- queries in it
    judgement_count BIGINT NOT NULL, -- judgements in it
    source VARCHAR -- where it came from
);

-- The queries of the imported sets; none of them ever enters training.
CREATE TABLE golden_queries (
    set_version VARCHAR NOT NULL, -- the set
    query_id VARCHAR NOT NULL, -- the query's id within the set
    text VARCHAR NOT NULL, -- the query
    query_key VARCHAR NOT NULL -- the text normalised; what training is checked against
);

-- The judgements of the imported sets.
CREATE TABLE golden_judgements (
    set_version VARCHAR NOT NULL, -- the set
    query_id VARCHAR NOT NULL, -- the query's id within the set
    doc_id VARCHAR NOT NULL, -- the document
    grade DOUBLE NOT NULL -- how relevant; 0: not
);
