"""Estimators and metrics: numbers in, numbers out. No clock, no files, no database."""
