"""Reads clicks for learning: pages that teach, who is left out, evidence, and pages as they were."""
