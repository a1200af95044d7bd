-- A challenger's ranking of live queries that it does not serve, and the sums that say what it would have earned.
-- Users are kept as one of 64 groups alone: enough for an interval over users, and nobody can be found in it.

-- How far a shadow has read the pages that are stored.
CREATE TABLE shadow_progress (
    experiment_id VARCHAR PRIMARY KEY, -- the experiment
    run_id VARCHAR NOT NULL, -- training run whose click curve and posteriors it uses
    since_ts TIMESTAMP NOT NULL, -- pages after this alone are read: the challenger has learned nothing from them, UTC
    batch BIGINT NOT NULL, -- last batch of queries that was read
    pages BIGINT NOT NULL, -- pages that were counted
    logged_pages BIGINT NOT NULL, -- those of them that came with propensities
    first_ts TIMESTAMP, -- earliest page counted, UTC
    last_ts TIMESTAMP -- latest page counted, UTC
);

-- Each distinct query of a shadow, ranked once by both models.
CREATE TABLE shadow_rankings (
    experiment_id VARCHAR NOT NULL, -- the experiment
    query_no INTEGER NOT NULL, -- its number within the experiment
    query_key VARCHAR NOT NULL, -- normalised query text
    query VARCHAR NOT NULL, -- query text that was ranked
    champion VARCHAR[] NOT NULL, -- the champion's documents, best first
    challenger VARCHAR[] NOT NULL, -- the challenger's documents, best first
    overlap FLOAT NOT NULL, -- share of the champion's documents that the challenger shows too, 0 to 1
    rbo FLOAT NOT NULL, -- rank-biased overlap of the two, p = 0.9, 0 to 1
    champion_ms FLOAT, -- encoding and search of this query alone, milliseconds; null: not timed
    challenger_ms FLOAT -- the same for the challenger
);

-- Pages by query and group of users.
CREATE TABLE shadow_traffic (
    experiment_id VARCHAR NOT NULL, -- the experiment
    query_no INTEGER NOT NULL, -- the query
    bucket SMALLINT NOT NULL, -- group of users, 0 to 63
    pages BIGINT NOT NULL -- pages that the group saw for it
);

-- Each document that either model shows for a query, and what the log says about it.
CREATE TABLE shadow_slots (
    experiment_id VARCHAR NOT NULL, -- the experiment
    query_no INTEGER NOT NULL, -- the query
    doc_id VARCHAR NOT NULL, -- the document
    champion_rank SMALLINT, -- its rank in the champion's list; null: not in it
    challenger_rank SMALLINT, -- its rank in the challenger's list; null: not in it
    posterior FLOAT NOT NULL, -- relevance by the run's click model, from earlier pages
    impressions BIGINT NOT NULL, -- times that it was shown for the query, at any rank
    examined DOUBLE NOT NULL, -- impressions weighted by how often their rank is examined, rank 1 = 1
    expected DOUBLE NOT NULL, -- satisfied clicks that the click model expects of those impressions
    clicks BIGINT NOT NULL -- satisfied clicks that there were
);

-- Satisfied clicks on those documents by group of users.
CREATE TABLE shadow_clicks (
    experiment_id VARCHAR NOT NULL, -- the experiment
    query_no INTEGER NOT NULL, -- the query
    doc_id VARCHAR NOT NULL, -- the document
    bucket SMALLINT NOT NULL, -- group of users, 0 to 63
    clicks BIGINT NOT NULL -- satisfied clicks
);

-- Importance-weighted sums over the slots of pages that were logged with propensities.
CREATE TABLE shadow_weights (
    experiment_id VARCHAR NOT NULL, -- the experiment
    bucket SMALLINT NOT NULL, -- group of users, 0 to 63
    rank SMALLINT NOT NULL, -- place on the page, 1-based
    slots BIGINT NOT NULL, -- slots logged
    champion_weight DOUBLE NOT NULL, -- sum of the champion's weights: 1 / propensity where it shows the same, else 0
    champion_weight_sq DOUBLE NOT NULL, -- sum of their squares
    champion_reward DOUBLE NOT NULL, -- sum of weight times satisfied click
    champion_robust DOUBLE NOT NULL, -- sum of prediction plus weight times (satisfied click less prediction)
    challenger_weight DOUBLE NOT NULL, -- the same for the challenger
    challenger_weight_sq DOUBLE NOT NULL, -- the same for the challenger
    challenger_reward DOUBLE NOT NULL, -- the same for the challenger
    challenger_robust DOUBLE NOT NULL -- the same for the challenger
);

ALTER TABLE ab_outcomes ADD COLUMN effective DOUBLE;
ALTER TABLE ab_outcomes ADD COLUMN coverage DOUBLE;
COMMENT ON COLUMN ab_outcomes.effective IS 'shadow only: pages of the challenger''s own that the log is worth';
COMMENT ON COLUMN ab_outcomes.coverage IS 'shadow only: share of what the challenger would show that the log has, 0 to 1';
COMMENT ON COLUMN ab_outcomes.part IS 'all, seen (documents that training touched), unseen, an anchor set''s name, or the estimator of a shadow: click_model, snips, doubly_robust';
