"""The HTTP edge: search, embeddings, UBI events in, and everything ops and analysts ask of a running daemon."""
