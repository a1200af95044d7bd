COMMENT ON COLUMN evidence_checks.clear IS 'lower end, at 95 %, of the log likelihood of two kinds of documents above a continuum; the posterior is relied upon above 0';
