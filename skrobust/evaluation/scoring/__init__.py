"""Robust accuracy, scorers for GridSearchCV, confidence intervals."""
