-- What satisfies, said once. The view is for whole histories; a statement that reads the feedback of some days groups
-- that by the macro, because no filter on time gets below the view's grouping.

CREATE MACRO worth_ms(kind, dwell_ms) AS
    CASE WHEN NOT bool_or(kind = 'thumbs_down')
         THEN max(CASE WHEN kind IN ('thumbs_up', 'add_to_cart', 'purchase') THEN 9223372036854775807 ELSE dwell_ms END)
    END;
COMMENT ON MACRO worth_ms IS 'An aggregate over the feedback on one document of one page: the longest signals.satisfied_ms that it still satisfies. That is the longest dwell, without bound for a vote up, a cart or a purchase; null where nothing of it was sent or the document was voted down.';

-- What people did with one document of one page, and what that is worth: it satisfied where worth_ms is at least signals.satisfied_ms (30000 unless set).
CREATE VIEW satisfied (
    query_id, -- the page
    doc_id, -- the document; null: feedback on the page as a whole
    clicked, -- true: somebody clicked it
    voted_down, -- true: somebody voted it down, so that nothing else counts
    worth_ms -- the longest dwell, milliseconds, without bound for a vote up, a cart or a purchase; null where nothing of it was sent or the document was voted down
) AS
SELECT query_id, doc_id, bool_or(kind = 'click'), bool_or(kind = 'thumbs_down'), worth_ms(kind, dwell_ms)
FROM feedback WHERE query_id IS NOT NULL GROUP BY query_id, doc_id;
