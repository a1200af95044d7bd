"""Which document is worth a slot on a page, where, and what that costs."""
