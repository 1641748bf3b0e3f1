"""Orthogonal matching pursuit over one dense dictionary."""
