"""Formats that people bring or take away."""
