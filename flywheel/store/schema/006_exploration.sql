-- What is explored: documents shown beyond the champion's choice, until people's reactions settle what they are.

-- One document that exploration has shown, or shows, for a query, and where its test stands.
CREATE TABLE exploration (
    query_key VARCHAR NOT NULL, -- normalised query text
    query VARCHAR NOT NULL, -- the query as people typed it
    doc_id VARCHAR NOT NULL, -- the document that is explored
    source VARCHAR NOT NULL, -- who proposed it: page (low on the page), champion (just off it), lexical, neighbour (answers a similar query) or rival (another model)
    state VARCHAR NOT NULL, -- open (being shown), waiting (open, without a slot now), confirmed, dropped or exhausted
    prior DOUBLE NOT NULL, -- chance that it is relevant, before its own clicks
    posterior DOUBLE NOT NULL, -- chance that it is relevant, after them
    impressions DOUBLE NOT NULL, -- impressions that count, wherever it was shown
    clicks DOUBLE NOT NULL, -- clicks that count
    rank SMALLINT, -- rank that it is shown at; null: it has no slot
    displaces VARCHAR, -- document whose place it takes
    probability DOUBLE, -- share of the query's pages on which it is shown there
    cost DOUBLE, -- clicks expected to be lost on such a page; below 0: won
    model_version VARCHAR NOT NULL, -- champion whose pages the plan was made for
    opened_at TIMESTAMP NOT NULL, -- when it was first planned, UTC
    updated_at TIMESTAMP NOT NULL, -- when the plan was last made, UTC
    PRIMARY KEY (query_key, doc_id)
);
