"""Verdicts away from a home: on collections that a caller brings, and again from what a decision recorded."""
