"""Tables of what was shown and done: queries, impressions, events, documents."""
