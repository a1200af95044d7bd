"""Tests that somebody else ran: their logs by arm in, a verdict for each arm against the control out."""
