"""One turn of the wheel, from feedback to a verdict."""
