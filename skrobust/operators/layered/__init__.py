"""Dictionaries of dictionaries as one linear operator."""
