"""White-box attacks that follow gradients, one a file."""
