"""One style for all figures, and the drawings that reports need too."""
