"""WaveletSparsifier and its torch form."""
