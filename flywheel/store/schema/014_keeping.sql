-- Sessions are hashed as people are; what was stored before is hashed when the home is opened.

COMMENT ON COLUMN queries.session_id IS 'keyed hash of the sender''s session';
COMMENT ON COLUMN feedback.session_id IS 'keyed hash of the sender''s session';
COMMENT ON COLUMN impressions.session_id IS 'keyed hash of the sender''s session';
