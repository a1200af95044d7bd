"""The daemon that keeps a search box's embedding model learning from the people who use it, and its command."""
