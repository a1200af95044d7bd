"""Copies of training runs for MLflow and Weights & Biases."""
