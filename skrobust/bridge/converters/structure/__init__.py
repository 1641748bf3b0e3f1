"""Pipelines, unions, searches, and skorch networks."""
