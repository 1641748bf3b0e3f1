"""Classifiers around other classifiers."""
