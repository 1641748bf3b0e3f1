"""Broadcasting of one value a sample over its features."""


def wide(values, like):
    """`values`, one a sample, shaped to broadcast over the features of `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
