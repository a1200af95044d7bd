"""Simulated people, a product for them to use, and the demo's collection."""
