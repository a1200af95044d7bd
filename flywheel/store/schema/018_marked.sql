-- Pages whose order says nothing about relevance, said once: every reader that learns asks this view and this macro.

ALTER TABLE queries ADD COLUMN sorted_by VARCHAR;
ALTER TABLE queries ADD COLUMN filtered BOOLEAN;
ALTER TABLE queries ADD COLUMN sponsored VARCHAR[];
ALTER TABLE queries ADD COLUMN layout VARCHAR;
ALTER TABLE click_curves ADD COLUMN layout VARCHAR DEFAULT 'list';

COMMENT ON COLUMN queries.sorted_by IS 'what the person sorted the page by; null: by relevance. A sorted page teaches nothing';
COMMENT ON COLUMN queries.filtered IS 'true: the person narrowed the results by filters';
COMMENT ON COLUMN queries.sponsored IS 'documents that had a paid place on the page; what happened to them there teaches nothing';
COMMENT ON COLUMN queries.layout IS 'how the page was laid out, as it was sent; grid has ranks of its own in the click model; null: a list';
COMMENT ON COLUMN click_curves.layout IS 'list, or grid for pages that were marked as one';
COMMENT ON COLUMN dwell_thresholds.segment IS 'length of the document (short, medium, long or unknown) and of the query (short or long); until the next act: no dwells are sent, and time to the person''s next click or page stands for them';
COMMENT ON COLUMN dwell_thresholds.source IS 'segment (its own dwells), all (those of all segments), settings (dwells do not form two heaps, and somebody set them or there are hardly any), quarters (the outer quarters of the dwells) or none (too few)';

CREATE MACRO teaches(sponsored, doc_id) AS NOT coalesce(list_contains(sponsored, doc_id), false);
COMMENT ON MACRO teaches IS 'Whether what people did with a document teaches something on a page with these sponsored documents.';

-- Pages whose order the ranker made, without their paid places: all that learning reads.
CREATE VIEW teaching_pages (
    query_id, -- the page
    query_key, -- its normalised query text
    text, -- what the person typed
    ts, -- when it was shown, UTC
    client_key, -- keyed hash of the client id
    user_key, -- keyed hash of the user id
    session_id, -- the sender's session
    model_version, -- the model version that ranked the page
    hit_ids, -- documents shown, without those of paid places; empty where the sender logs impressions as events
    ranks, -- their positions, 1-based, where paid places were left out; null: 1, 2, ...
    propensities, -- probability with which each hit was shown at its rank; null where paid places were left out
    sponsored, -- documents that had a paid place
    grid, -- true: a grid
    ingested_at, -- when the row was written, UTC
    batch -- number of the transaction that wrote the row
) AS
SELECT query_id, query_key, text, ts, client_key, user_key, session_id, model_version,
       CASE WHEN len(sponsored) > 0 THEN list_filter(hit_ids, lambda x: teaches(sponsored, x)) ELSE hit_ids END,
       CASE WHEN len(sponsored) > 0
            THEN list_filter(range(1, len(hit_ids) + 1), lambda x: teaches(sponsored, hit_ids[x]))::INTEGER[] END,
       CASE WHEN len(sponsored) > 0 THEN NULL ELSE propensities END,
       sponsored, coalesce(layout = 'grid', false), ingested_at, batch
FROM queries WHERE sorted_by IS NULL;
