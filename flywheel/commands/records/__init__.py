"""What came in and what became of it: dead letters, and the last hour's records."""
