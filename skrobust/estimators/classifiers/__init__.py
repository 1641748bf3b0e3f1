"""Classifiers: torch networks, and sparsity that adapts to each image."""
