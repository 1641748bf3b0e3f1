"""The `skrobust` command."""
