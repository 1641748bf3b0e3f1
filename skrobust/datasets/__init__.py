"""Readers for the image sets that users already have."""
