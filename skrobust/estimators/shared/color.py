"""Colour spaces in which front ends work, as linear maps of the channels."""

import numpy as np

# JPEG's full-range constants. The chroma channels stay centred at zero: grey is (y, 0, 0), whatever the range of the
# pixels, and a chroma channel is sparse where the image is grey.
_LUMA = np.array([0.299, 0.587, 0.114])
_YCBCR = np.array(
    [
        _LUMA,
        (np.array([0, 0, 1]) - _LUMA) / (2 * (1 - _LUMA[2])),
        (np.array([1, 0, 0]) - _LUMA) / (2 * (1 - _LUMA[0])),
    ]
)


def color_matrices(color_space, dtype):
    """Matrices M and M^-1 such that ``pixels @ M`` is in `color_space`; None without a colour space.

    Examples
    --------
    >>> import numpy as np
    >>> to_ycbcr, back = color_matrices("ycbcr", np.float64)
    >>> (np.array([0.5, 0.5, 0.5]) @ to_ycbcr).round(12) + 0.0
    array([0.5, 0. , 0. ])
    """
    if color_space is None:
        return None
    return _YCBCR.T.astype(dtype), np.linalg.inv(_YCBCR).T.astype(dtype)
