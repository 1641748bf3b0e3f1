"""Pursuits of all layers of a layered dictionary."""
