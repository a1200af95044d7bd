"""What a click says about relevance, from aggregates of what was shown and clicked. No clock, no files, no database."""
