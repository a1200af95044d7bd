-- What a run made of its clicks: whether people agree, how they were read, and which precision may be promised.
CREATE TABLE evidence_checks (
    run_id VARCHAR PRIMARY KEY, -- the training run
    reading VARCHAR NOT NULL, -- posterior (positives are what is likely relevant), clicks (every clicked pair, weakly) or nothing (only votes, carts and purchases)
    sentence VARCHAR NOT NULL, -- why clicks teach, or what is missing
    agreement_z DOUBLE NOT NULL, -- do different people click the same documents, beyond rank and query: standard deviations above chance
    agreement_p DOUBLE NOT NULL, -- its p-value, one-sided
    telling_clicks BIGINT NOT NULL, -- clicks that lie where documents changed places between people
    telling_queries BIGINT NOT NULL, -- queries that have such clicks
    opinion_z DOUBLE, -- do people click what the champion scores higher, beyond the rank; null: agreement was enough
    opinion_p DOUBLE, -- its p-value, one-sided
    clear DOUBLE NOT NULL, -- log likelihood of two kinds of documents above a continuum; the posterior is relied upon above 3
    asked DOUBLE NOT NULL, -- signals.expected_precision
    promised DOUBLE, -- the precision that judged queries with clicks show, a lower bound with a confidence of 90 %; null: unverified
    promised_positives BIGINT NOT NULL, -- positives of the run of which that is promised
    positives BIGINT NOT NULL, -- all positives of the run
    judged_pairs BIGINT NOT NULL, -- judged pairs that were shown
    judged_queries BIGINT NOT NULL, -- queries that have such pairs
    pairs_needed BIGINT, -- judged pairs that would show what was asked; null: it is shown
    verdict VARCHAR NOT NULL -- what may be said of the positives' precision
);

COMMENT ON COLUMN click_models.separable IS 'whether two kinds of documents explain the clicks better than a continuum, so that the posterior can be relied upon';
