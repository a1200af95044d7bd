"""Keeps and ends data: backups, erasing of people, expiry."""
