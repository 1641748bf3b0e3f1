"""Derivatives of pursuits at their solution."""
