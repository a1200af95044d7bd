"""The commands of `flywheel`, one module a topic; each only asks `Operations` and shows the answer."""
