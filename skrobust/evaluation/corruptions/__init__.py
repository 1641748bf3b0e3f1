"""CIFAR-10-C's corruptions."""
