"""The HTTP API: routes, bodies, errors, and who may ask."""
