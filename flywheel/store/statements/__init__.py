"""Statements of others: each in a process of its own, on the published folder, with hard limits."""
