-- Why a pair was believed: what was expected before its clicks, and how far its document is clicked whatever it answers.

ALTER TABLE pairs ADD COLUMN prior FLOAT;
ALTER TABLE pairs ADD COLUMN pull FLOAT;

COMMENT ON COLUMN pairs.prior IS 'chance of relevance before its own clicks, from the champion''s score, its gap to the query''s best, its rank and common words; null: written before it was kept';
COMMENT ON COLUMN pairs.pull IS 'chance that people click the document wherever they see it, as far as its other queries tell, and people who click nothing else; null: written before it was kept';
