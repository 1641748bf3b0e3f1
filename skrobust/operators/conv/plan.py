"""Memory layout of a signal and of the atoms of a convolutional dictionary in the buffers of the kernels.

A signal is stored in a flat buffer with margins and interleaved channels, so that one row of an atom covers consecutive
values, and an atom is a few vectors. A mask buffer of the same shape is 1 at known values and 0 in the margins and at
masked values; residual buffers are 0 there. For circular padding, the margins after the signal repeat its beginning;
values written into them are also written at the beginning.
"""

import math
from collections import namedtuple

import numpy as np

from skrobust.kernels.vectors import EXPLICIT, VECTOR_BYTES

from .vectors import shape_number

BLOCK = 8
"""Number of positions correlated at a time."""

POSITIONS, CACHED_BYTES = 256, 1 << 19
"""Minimum number of positions that use a cached slice of the atoms, and maximum bytes of their signals."""

Plan = namedtuple(
    "Plan",
    [
        "height",  # of the signal; 1 for one axis
        "width",
        "channels",
        "kernel_height",
        "kernel_width",
        "stride_down",
        "stride_right",
        "top",  # margins before the first pixel, in rows and columns
        "left",
        "code_height",
        "code_width",
        "first_row",  # offset in the buffer of the atom at position 0
        "first_column",
        "rows",
        "pitch",  # values from row to row of the buffer
        "wraps",
        "atoms",
        "padded_atoms",  # a multiple of the lanes
        "row_vectors",  # vectors of one row of an atom
        "shape",  # index of the unrolled code for atoms of this shape, or 0
        "apart",  # positions between consecutive visits
    ],
)


def make_plan(geometry, n_components, n_channels, dtype, *, blocks=True):
    """Plan of one signal for kernels on vectors of this dtype; with `blocks`, rows of positions may overrun."""
    lanes = lanes_of(dtype)
    (height, width), (kernel_height, kernel_width) = _two(geometry.grid), _two(geometry.kernel_size)
    stride, offset, code, extent = (
        _two(geometry.stride),
        _two(geometry.offset, 0),
        _two(geometry.code_grid),
        _two(geometry.extent),
    )
    row_vectors = -(-kernel_width * n_channels // lanes)
    if geometry.wraps:
        top, left = kernel_height - 1, kernel_width - 1
        first_row, first_column = top, left
        rows, columns = height + 3 * top, width + 3 * left
    else:
        top, left = offset
        first_row, first_column = 0, 0
        rows, columns = max(top + height, extent[0]), max(left + width, extent[1])
    overrun = blocks * BLOCK * stride[1] * n_channels + row_vectors * lanes
    pitch = -(-(columns * n_channels + overrun) // lanes) * lanes
    if pitch * np.dtype(dtype).itemsize % 1024 == 0:
        pitch += lanes  # rows a power of two apart would share cache lines
    return Plan(
        height,
        width,
        n_channels,
        kernel_height,
        kernel_width,
        *stride,
        top,
        left,
        *code,
        first_row,
        first_column,
        rows,
        pitch,
        int(geometry.wraps),
        n_components,
        -(-n_components // lanes) * lanes,
        row_vectors,
        shape_number(kernel_height, row_vectors),
        _positions_apart(code, (kernel_height, row_vectors * lanes / n_channels), stride),
    )


def _positions_apart(code, footprint, stride):
    """Distance between consecutive visits such that a visit rarely reads what a recent one has written.

    A recent write can only be forwarded to a read of the same addresses; other reads wait for memory.
    """
    rows, columns = (math.ceil(size / step) for size, step in zip(footprint, stride, strict=True))
    if columns >= code[1]:
        return rows * code[1]
    down = math.ceil(rows * columns / code[1]) if code[0] > 1 else 0
    return down * code[1] + columns


def lanes_of(dtype):
    """Values of one vector."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize if EXPLICIT else 1


def _two(sizes, first=1):
    """Sizes along two axes; a 1-D signal is a single row."""
    return tuple(sizes) if len(sizes) == 2 else (first, *sizes)


def atom_vectors(components, plan, dtype):
    """Atoms as vectors: (padded_atoms, kernel_height * row_vectors * lanes), each row padded with zeros."""
    lanes = lanes_of(dtype)
    rows = np.zeros((plan.padded_atoms, plan.kernel_height, plan.row_vectors * lanes), dtype=dtype)
    rows[: plan.atoms, :, : plan.kernel_width * plan.channels] = components.reshape(
        plan.atoms, plan.kernel_height, plan.kernel_width * plan.channels
    )
    return rows.ravel()


def atom_columns(components, plan, dtype):
    """Atoms side by side: (kernel_height * kernel_width * channels, padded_atoms)."""
    columns = np.zeros((components[0].size, plan.padded_atoms), dtype=dtype)
    columns[:, : plan.atoms] = components.reshape(plan.atoms, -1).T
    return columns.ravel()


def atom_taps(components, plan, dtype):
    """As `atom_columns`, two vectors of atoms at a time: all taps of the first two, then all taps of the next."""
    columns = atom_columns(components, plan, dtype).reshape(-1, plan.padded_atoms)
    pair = 2 * lanes_of(dtype)
    return np.concatenate([columns[:, k : k + pair].ravel() for k in range(0, plan.padded_atoms, pair)])


def atom_slabs(components, plan, dtype):
    """Atoms four vectors at a time: the first four of all atoms, then the next four; the remainder vector by vector."""
    lanes = lanes_of(dtype)
    vectors = atom_vectors(components, plan, dtype).reshape(plan.padded_atoms, -1, lanes)
    behind = vectors.shape[1] // 4 * 4
    fours = vectors[:, :behind].reshape(plan.padded_atoms, -1, 4 * lanes).swapaxes(0, 1)
    return np.concatenate([fours.ravel(), vectors[:, behind:].swapaxes(0, 1).ravel()])


def signals_at_a_time(plan, dtype):
    """Number of signals evaluated together: enough positions for each slice of the atoms, within the cache."""
    wanted = -(-POSITIONS // (plan.code_height * plan.code_width))
    return max(1, min(wanted, CACHED_BYTES // (plan.rows * plan.pitch * np.dtype(dtype).itemsize)))
