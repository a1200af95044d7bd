"""A challenger's way through the live stages."""
