"""Attacks that only query the model, one a file."""
