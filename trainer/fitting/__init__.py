"""How a model is fitted: towers, losses, negatives, the loop, and the folder that comes out."""
