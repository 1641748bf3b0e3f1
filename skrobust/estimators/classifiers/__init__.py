"""Classifiers around torch networks."""
