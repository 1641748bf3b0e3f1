"""Helpers that several families of estimators use."""
