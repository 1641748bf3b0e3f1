"""Multi-layer dictionaries as one linear operator."""
