"""Attacks on any fitted classifier or Pipeline, one a file."""
