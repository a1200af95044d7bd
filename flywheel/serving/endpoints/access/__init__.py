"""Who may use the API, for what, and how often: ASGI middleware, so that it holds whatever answers behind it."""
