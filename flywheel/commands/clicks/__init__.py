"""`flywheel evaluate --clicks`: reads the home's pages, asks what their clicks are worth, and shows it."""
