"""What a training run reads: the snapshot, its recipe, and pairs as numbers."""
