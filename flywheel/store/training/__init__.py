"""Tables of what was learned: pairs, runs, model versions, and what is held out."""
