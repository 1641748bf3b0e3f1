"""Attacks made of other attacks, and adapters for other libraries."""
