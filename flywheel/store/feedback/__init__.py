"""Tables of what was shown and done: queries, impressions, events, documents, and evidence made of them."""
