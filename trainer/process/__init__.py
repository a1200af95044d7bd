"""A training run as a process: how it is started, watched, resumed and ended."""
