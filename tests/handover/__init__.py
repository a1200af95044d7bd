"""Tests of what is handed over to other servers."""
