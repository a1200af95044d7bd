"""Sums in, estimates out: what can be said about a difference, and when nothing can. No rows, no SQL, no clock."""
