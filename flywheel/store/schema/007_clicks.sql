-- What the click model thought of people, and of their dwells: why a run believed which clicks.

-- How people of a run's evidence examine a page, and how sure that is.
CREATE TABLE click_models (
    run_id VARCHAR PRIMARY KEY, -- the training run
    scheme VARCHAR NOT NULL, -- rank (each rank has its chance), context (clicks above change it) or cascade (from the top down until satisfied)
    after_irrelevant DOUBLE, -- cascade: chance to go on after a click on an irrelevant document
    after_relevant DOUBLE, -- cascade: chance to go on after a click on a relevant document
    after_skip DOUBLE, -- cascade: chance to go on after a result that was not clicked
    iterations INTEGER NOT NULL, -- iterations of the kept fit
    converged BOOLEAN NOT NULL, -- whether it had settled
    gain DOUBLE NOT NULL, -- log likelihood above clicks that ignore relevance
    separable BOOLEAN NOT NULL, -- false: clicks did not tell relevant documents apart, and there are no positives from them
    moved BIGINT, -- pairs shown at two ranks or more: the interventions that tie the ranks together
    moved_examination DOUBLE[], -- examination of ranks 1, 2, ... relative to rank 1 as those pairs alone tell it; biased upwards where clicks moved them; null: too few
    moved_error DOUBLE[], -- its standard errors
    warnings VARCHAR[] NOT NULL -- what to know before trusting it
);

-- From which dwell on a click counts as satisfied, and below which as a bounce, in one run.
CREATE TABLE dwell_thresholds (
    run_id VARCHAR NOT NULL, -- the training run
    segment VARCHAR NOT NULL, -- length of the document (short, medium, long or unknown) and of the query (short or long)
    bounce_ms BIGINT NOT NULL, -- a shorter dwell is a bounce
    satisfied_ms BIGINT NOT NULL, -- this or a longer dwell is a satisfied click
    dwells BIGINT NOT NULL, -- measured dwells of the segment
    source VARCHAR NOT NULL, -- segment (its own dwells), all (those of all segments) or settings (too few, or not two heaps)
    PRIMARY KEY (run_id, segment)
);
