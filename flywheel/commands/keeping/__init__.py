"""Commands that keep a home: its copies."""
