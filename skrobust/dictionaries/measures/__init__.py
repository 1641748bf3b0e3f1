"""Coherence, stripe sparsity and other measures of dictionaries and codes."""
