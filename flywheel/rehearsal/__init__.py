"""Simulated people, the product that they use, and the demo's collection."""
