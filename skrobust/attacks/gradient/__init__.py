"""White-box attacks that follow gradients, one per file."""
