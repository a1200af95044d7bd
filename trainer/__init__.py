"""A subprocess that fits a model: a snapshot in, a model directory and a report out."""
