"""A verdict in the forms that pipelines read."""
