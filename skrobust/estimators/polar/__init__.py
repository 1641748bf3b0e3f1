"""PolarizingCoder, its atoms, thresholds and code bounds."""
