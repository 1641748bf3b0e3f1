"""Proximal gradient methods: FISTA, its fused steps, checkpointed iterations."""
