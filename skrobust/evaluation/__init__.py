"""Robust accuracy, told honestly: scorers, reports, displays."""
