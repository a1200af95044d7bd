"""The three ways to train a version, behind one signature: `train(snapshot, run) -> metrics`, the version saved."""
