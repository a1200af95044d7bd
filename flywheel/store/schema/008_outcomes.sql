-- Outcomes on the scale of the verdict: a live metric's row carries what decided, with the sums that it follows from.

ALTER TABLE ab_outcomes ADD COLUMN scale VARCHAR DEFAULT 'difference';
ALTER TABLE ab_outcomes ADD COLUMN champion_before DOUBLE DEFAULT 0;
ALTER TABLE ab_outcomes ADD COLUMN challenger_before DOUBLE DEFAULT 0;
ALTER TABLE ab_outcomes ADD COLUMN champion_before_sq DOUBLE DEFAULT 0;
ALTER TABLE ab_outcomes ADD COLUMN challenger_before_sq DOUBLE DEFAULT 0;
ALTER TABLE ab_outcomes ADD COLUMN champion_sum_before DOUBLE DEFAULT 0;
ALTER TABLE ab_outcomes ADD COLUMN challenger_sum_before DOUBLE DEFAULT 0;
ALTER TABLE ab_outcomes ADD COLUMN champion_pages_before DOUBLE DEFAULT 0;
ALTER TABLE ab_outcomes ADD COLUMN challenger_pages_before DOUBLE DEFAULT 0;
ALTER TABLE ab_outcomes ADD COLUMN e_loss DOUBLE;

COMMENT ON COLUMN ab_outcomes.scale IS 'of effect, low and high: difference (by page), or log ratio (logarithm of the challenger''s mean over the champion''s), on which the live verdict rests';
COMMENT ON COLUMN ab_outcomes.champion_before IS 'sum over units of what they did before, for CUPED; 0: not taken out';
COMMENT ON COLUMN ab_outcomes.challenger_before IS 'sum over units of what they did before, for CUPED; 0: not taken out';
COMMENT ON COLUMN ab_outcomes.champion_before_sq IS 'sum over units of its square';
COMMENT ON COLUMN ab_outcomes.challenger_before_sq IS 'sum over units of its square';
COMMENT ON COLUMN ab_outcomes.champion_sum_before IS 'sum over units of metric times before';
COMMENT ON COLUMN ab_outcomes.challenger_sum_before IS 'sum over units of metric times before';
COMMENT ON COLUMN ab_outcomes.champion_pages_before IS 'sum over units of pages times before';
COMMENT ON COLUMN ab_outcomes.challenger_pages_before IS 'sum over units of pages times before';
COMMENT ON COLUMN ab_outcomes.e_loss IS 'e-value of a loss, for tests that may look at any time';
COMMENT ON COLUMN ab_outcomes.e_value IS 'e-value of a gain, for tests that may look at any time; of a guardrail: of a rise beyond what is tolerated';
COMMENT ON COLUMN ab_outcomes.effect IS 'challenger against champion on the scale; null: no answer';
COMMENT ON COLUMN ab_outcomes.relative_effect IS 'the effect as a share of the champion''s mean';
COMMENT ON COLUMN ab_outcomes.part IS 'all, seen (documents that training touched), unseen, an anchor set''s name, or feedback (queries held out of training), also seen and unseen; of a shadow: the estimator';
COMMENT ON COLUMN ab_outcomes.stage IS 'offline, shadow, interleaving, split, observe, confirmation or frozen';
COMMENT ON COLUMN experiments.stage IS 'offline, shadow, interleaving, split, observe, confirmation: the watch over a promotion, or frozen: people who keep one model for ever';
COMMENT ON COLUMN experiments.state IS 'queued, live, decided, expired or stopped; watched: frozen, without end';
