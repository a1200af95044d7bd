"""The database file: its connection, its numbered migrations and its errors."""
