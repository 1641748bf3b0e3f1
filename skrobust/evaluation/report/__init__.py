"""The robustness report: running the attacks, the result, its text and HTML."""
