"""The dashboard that people see in a browser."""
