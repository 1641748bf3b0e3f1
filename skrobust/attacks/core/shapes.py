"""Values of samples against the features of samples."""


def wide(values, like):
    """`values`, one a sample, shaped to broadcast over the features of `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
