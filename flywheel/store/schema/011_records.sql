-- What came in and what became of it: who sent it, what was kept beside the columns, what was left out or set aside.

ALTER TABLE queries ADD COLUMN application VARCHAR;
ALTER TABLE queries ADD COLUMN attributes VARCHAR;
ALTER TABLE feedback ADD COLUMN application VARCHAR;
ALTER TABLE feedback ADD COLUMN attributes VARCHAR;
ALTER TABLE dead_letters ADD COLUMN field VARCHAR;
ALTER TABLE dead_letters ADD COLUMN message_key BLOB;
ALTER TABLE dead_letters ADD COLUMN sent_at TIMESTAMP;
ALTER TABLE dead_letters ADD COLUMN replayed_at TIMESTAMP;

COMMENT ON COLUMN queries.application IS 'the sender, as it named itself';
COMMENT ON COLUMN queries.attributes IS 'the query_attributes that have no column here, as JSON: attributes->>''$.segment''; null where there were none';
COMMENT ON COLUMN feedback.application IS 'the sender, as it named itself';
COMMENT ON COLUMN feedback.attributes IS 'the event_attributes that have no column here, as JSON: attributes->>''$.object.price''; null where there were none';
COMMENT ON COLUMN dead_letters.field IS 'the field that could not be read; null: the message as a whole';
COMMENT ON COLUMN dead_letters.message_key IS 'the message''s key as it arrived';
COMMENT ON COLUMN dead_letters.sent_at IS 'the broker''s time of the message, UTC';
COMMENT ON COLUMN dead_letters.replayed_at IS 'when it was read after all, by flywheel dead-letters replay, UTC; null: it waits';

-- Fields of stored records that could not be read and were left out, counted in slots of ten minutes.
CREATE TABLE ignored_fields (
    slot TIMESTAMP NOT NULL, -- beginning of the ten minutes in which they were received, UTC
    topic VARCHAR NOT NULL, -- topic that the records came from; import: from a file
    application VARCHAR NOT NULL, -- the sender, as it named itself; empty: it did not
    field VARCHAR NOT NULL, -- the field, by its UBI name
    reason VARCHAR NOT NULL, -- why it could not be read
    records BIGINT NOT NULL, -- how many of them
    sample VARCHAR NOT NULL, -- the beginning of the latest such value
    last_at TIMESTAMP NOT NULL, -- when the latest was received, UTC
    PRIMARY KEY (slot, topic, application, field, reason)
);

-- What came in, by slots of ten minutes: stored, left out in part, or set aside. `flywheel doctor --events` shows the last hour of it.
CREATE VIEW arrivals (
    slot, -- beginning of the ten minutes in which it was received, UTC
    outcome, -- stored, left out (a field of a stored record) or set aside (a dead letter)
    topic, -- topic that it came from; import: from a file
    application, -- the sender, as it named itself; null: it did not
    kind, -- page, document, or an event's kind; null where it could not be read
    action_name, -- action_name as it was sent; events only
    field, -- the field that could not be read
    reason, -- why
    records, -- how many
    last_at, -- when the latest was received, UTC
    sample -- the beginning of a value that was left out, or an id of what was stored
) AS
SELECT time_bucket(INTERVAL 10 MINUTE, ingested_at), 'stored', topic, application, 'page', NULL, NULL, NULL,
       count(*), max(ingested_at), arg_max(query_id, ingested_at)
FROM queries GROUP BY ALL
UNION ALL
SELECT time_bucket(INTERVAL 10 MINUTE, ingested_at), 'stored', topic, application, kind, action_name, NULL, NULL,
       count(*), max(ingested_at), arg_max(event_id, ingested_at)
FROM feedback GROUP BY ALL
UNION ALL
SELECT time_bucket(INTERVAL 10 MINUTE, ingested_at), 'stored', NULL, NULL, 'document', NULL, NULL, NULL,
       count(*), max(ingested_at), arg_max(doc_id, ingested_at)
FROM documents GROUP BY ALL
UNION ALL
SELECT slot, 'left out', topic, nullif(application, ''), NULL, NULL, field, reason, records, last_at, sample
FROM ignored_fields
UNION ALL
SELECT time_bucket(INTERVAL 10 MINUTE, received_at), 'set aside', topic, NULL, NULL, NULL, field, reason,
       count(*), max(received_at), NULL
FROM dead_letters WHERE replayed_at IS NULL GROUP BY ALL;
