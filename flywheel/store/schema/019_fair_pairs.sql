-- Neighbours that were shown in either order with equal chance: what people prefer, without any model of examination.

ALTER TABLE queries ADD COLUMN fair_pair SMALLINT;
COMMENT ON COLUMN queries.fair_pair IS 'upper rank of two neighbours that had an equal chance of standing in either order; null: none';

ALTER TABLE click_models ADD COLUMN ends_relevant DOUBLE[];
ALTER TABLE click_models ADD COLUMN ends_irrelevant DOUBLE[];
COMMENT ON COLUMN click_models.ends_relevant IS 'how clicks on relevant documents end: shares that satisfied, were in between, and bounced; null: written before it was kept';
COMMENT ON COLUMN click_models.ends_irrelevant IS 'the same for irrelevant ones; equal to the other where ends do not go with relevance, and then say nothing';
COMMENT ON COLUMN experiments.progress IS 'from_ms: event time at which it began; metric: what judges it, fixed at that time; look: what the last look said; void: why it compared nothing';

-- What people did with two neighbours in an order by chance (FairPairs): one row for each such page.
CREATE VIEW preferences (
    query_id, -- the page
    query_key, -- its normalised query text
    ts, -- when it was shown, UTC
    person, -- keyed hash of the user, else of the client, else the session; null: nobody that can be followed
    upper, -- the document above
    lower, -- the document right below it
    upper_clicked, -- true: the document above was clicked
    lower_clicked -- true: the document below was clicked; where the one above was not, it was preferred
) AS
SELECT q.query_id, any_value(q.query_key), any_value(q.ts), any_value(coalesce(q.user_key, q.client_key, q.session_id)),
       any_value(q.hit_ids[q.fair_pair]), any_value(q.hit_ids[q.fair_pair + 1]),
       coalesce(bool_or(f.doc_id = q.hit_ids[q.fair_pair]), false),
       coalesce(bool_or(f.doc_id = q.hit_ids[q.fair_pair + 1]), false)
FROM queries q LEFT JOIN (
    SELECT query_id, doc_id FROM feedback WHERE kind IN ('click', 'dwell', 'add_to_cart', 'purchase')
) f USING (query_id)
WHERE q.fair_pair BETWEEN 1 AND len(q.hit_ids) - 1 AND q.sorted_by IS NULL
  AND teaches(q.sponsored, q.hit_ids[q.fair_pair]) AND teaches(q.sponsored, q.hit_ids[q.fair_pair + 1])
GROUP BY q.query_id;
