"""Dictionaries of patches: online learning, K-SVD, MOD."""
