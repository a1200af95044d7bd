"""The HTTP edge: search, embeddings, UBI records in, and all that ops and analysts ask a running daemon for."""
