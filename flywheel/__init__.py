"""A daemon that keeps the embedding model behind a search box learning from its users, and the command for it."""
