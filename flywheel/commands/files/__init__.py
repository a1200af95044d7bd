"""How files come in: in batches that no single record can spoil, and judged sets with what they can decide."""
