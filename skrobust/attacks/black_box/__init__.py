"""Attacks that only query the model, one per file."""
