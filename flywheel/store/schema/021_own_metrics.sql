-- Metrics of the product's own: what one person's counted pages brought of each, and before the experiment, for CUPED.
CREATE TABLE experiment_own (
    experiment_id VARCHAR NOT NULL, -- the experiment
    person VARCHAR NOT NULL, -- as in experiment_people
    metric VARCHAR NOT NULL, -- its name in metrics.own
    value DOUBLE NOT NULL, -- what the pages that count brought, before extremes are cut
    events DOUBLE NOT NULL, -- pages, or numbers, that had it
    value_before DOUBLE NOT NULL, -- the same of the time before the experiment
    events_before DOUBLE NOT NULL, -- as events, of the time before
    pages_before DOUBLE NOT NULL -- pages of the time before
);
