"""Tables of what was judged: golden sets, experiments, tallies, the shadow, decisions."""
