-- What live experiments have counted so far: one row a person, so that a verdict never goes back to the pages.

-- How far each experiment's pages are counted.
CREATE TABLE tallies (
    experiment_id VARCHAR PRIMARY KEY, -- the experiment
    until_ts TIMESTAMP NOT NULL, -- pages shown before this event time are counted, UTC
    until_batch BIGINT NOT NULL, -- batch of ingestion up to which earlier pages are counted; later ones came late
    first_ts TIMESTAMP, -- event time of the first page, UTC; null: none yet
    pages BIGINT NOT NULL, -- pages that were counted
    over_cap BIGINT NOT NULL, -- pages beyond a person's cap, left out
    anonymous BIGINT NOT NULL -- pages of nobody that could be followed, left out
);

-- One person in one experiment: where they belong and what their pages brought.
CREATE TABLE experiment_people (
    experiment_id VARCHAR NOT NULL, -- the experiment
    person VARCHAR NOT NULL, -- keyed hash of the user, else of the client, else the session
    arm VARCHAR NOT NULL, -- the arm they met first: champion, challenger or interleaved
    crossed BOOLEAN NOT NULL, -- true: they met more than one arm, and count in none
    seen DOUBLE NOT NULL, -- pages they saw, also beyond the cap
    pages DOUBLE NOT NULL, -- pages that count
    clicked DOUBLE NOT NULL, -- of these, pages with a click
    satisfied DOUBLE NOT NULL, -- pages with a satisfied click
    empty DOUBLE NOT NULL, -- pages without a hit
    abandoned DOUBLE NOT NULL, -- pages on which nothing was done
    thumbs_down DOUBLE NOT NULL, -- pages with a thumb down
    timed DOUBLE NOT NULL, -- pages whose ranking was timed
    latency_ms DOUBLE NOT NULL, -- sum of their times, milliseconds
    champion_clicks DOUBLE NOT NULL, -- interleaved: clicks on what the champion drafted
    challenger_clicks DOUBLE NOT NULL, -- interleaved: clicks on what the challenger drafted
    champion_credit DOUBLE NOT NULL, -- interleaved: satisfied clicks on what the champion drafted
    challenger_credit DOUBLE NOT NULL -- interleaved: satisfied clicks on what the challenger drafted
);

-- What people did before an experiment began, for CUPED: what they brought more than the average person would have.
CREATE TABLE experiment_before (
    experiment_id VARCHAR NOT NULL, -- the experiment
    person VARCHAR NOT NULL, -- as in experiment_people
    satisfied DOUBLE NOT NULL, -- pages with a satisfied click, less everybody's rate times their pages
    clicked DOUBLE NOT NULL -- pages with a click, less everybody's rate times their pages
);

-- experiment_people by day, for the days that late pages may still change; experiment_daily is summed up from it.
CREATE TABLE experiment_people_days (
    experiment_id VARCHAR NOT NULL, -- the experiment
    person VARCHAR NOT NULL, -- as in experiment_people
    day DATE NOT NULL, -- day (UTC) of the pages
    arm VARCHAR NOT NULL, -- the arm they met first on that day
    crossed BOOLEAN NOT NULL, -- true: they met more than one arm on that day
    seen DOUBLE NOT NULL, -- pages they saw, also beyond the cap
    pages DOUBLE NOT NULL, -- pages that count
    clicked DOUBLE NOT NULL, -- of these, pages with a click
    satisfied DOUBLE NOT NULL, -- pages with a satisfied click
    empty DOUBLE NOT NULL, -- pages without a hit
    abandoned DOUBLE NOT NULL, -- pages on which nothing was done
    thumbs_down DOUBLE NOT NULL, -- pages with a thumb down
    timed DOUBLE NOT NULL, -- pages whose ranking was timed
    latency_ms DOUBLE NOT NULL, -- sum of their times, milliseconds
    champion_clicks DOUBLE NOT NULL, -- interleaved: clicks on what the champion drafted
    challenger_clicks DOUBLE NOT NULL, -- interleaved: clicks on what the challenger drafted
    champion_credit DOUBLE NOT NULL, -- interleaved: satisfied clicks on what the champion drafted
    challenger_credit DOUBLE NOT NULL -- interleaved: satisfied clicks on what the challenger drafted
);

COMMENT ON COLUMN experiments.stage IS 'offline, shadow, interleaving, split, observe, or confirmation: the watch over a promotion';
COMMENT ON COLUMN experiments.share IS 'share of the people in each arm, or whose pages are interleaved, now';
COMMENT ON COLUMN experiments.progress IS 'from_ms: event time at which it began; look: what the last look said; void: why it compared nothing';
COMMENT ON COLUMN ab_outcomes.stage IS 'offline, shadow, interleaving, split, observe or confirmation';
