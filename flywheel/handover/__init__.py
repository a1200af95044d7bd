"""Folders that other servers take as they are: a model version in their layout, checked against the model itself."""
