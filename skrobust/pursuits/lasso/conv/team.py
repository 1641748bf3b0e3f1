"""Threads that work on one signal together, each on its own parts of the positions.

A part is a range of rows of positions. Parts 0, 2, ... lie within their band of the signal, and all threads can change
them at once; parts 1, 3, ... extend into the next band, and follow when those are complete. What the threads compute
depends on the parts, and not on the number of threads: sums are taken band by band, in the same order on every thread.
"""

from collections import namedtuple

import numpy as np

from skrobust.kernels.phases import pause
from skrobust.kernels.vectors import inlined, kernel
from skrobust.kernels.workspace import part
from skrobust.operators.conv.vectors import arrivals, arrive

from .working_set import working_set_of

Team = namedtuple("Team", ["thread", "n_threads", "barrier", "values"])
"""Number of this thread, their number, a counter of arrivals, and one float64 per band, which `total_of` adds up."""

Parts = namedtuple("Parts", ["n", "rows", "sizes", "floats", "integers", "first_float", "first_integer"])
"""Number of parts; first and last row of each; sizes of their working sets, and where these are in the workspaces."""

FLOATS, INTEGERS = 7, 4
"""Arrays of a part: those of its working set, and, in floating point, four of conjugate gradients."""


ROWS = 64
"""Minimum number of rows of positions in a band."""


def band_parts(geometry):
    """First row of positions of each part and the row after its last, (n_parts, 2); a small signal is one part.

    A band has two parts: the rows whose atoms lie within the band, and those whose atoms extend into the next.
    """
    rows, tall = (1, 1) if len(geometry.grid) == 1 else (geometry.code_grid[0], geometry.kernel_size[0])
    n_bands = rows // max(ROWS, 4 * -(-tall // geometry.stride[0]))
    if n_bands < 2:
        return np.array([[0, rows]])
    tall = -(-tall // geometry.stride[0])
    starts = np.linspace(0, rows, n_bands + 1).astype(np.int64)
    splits = starts[1:] - tall + 1
    if not geometry.wraps:  # no strip after the last band
        splits[-1] = rows
    return np.stack([starts[:-1], splits, splits, starts[1:]], axis=1).reshape(-1, 2)


@kernel
def wait_for_all(team):
    """Barrier: wait for all threads."""
    if team.n_threads == 1:
        return
    goal = (arrive(team.barrier) // team.n_threads + 1) * team.n_threads
    looks = 0
    while arrivals(team.barrier) < goal:
        looks += 1
        pause(looks)


@kernel
def total_of(team, parts):
    """Sum of the values of all bands, once all threads have set theirs."""
    wait_for_all(team)
    total = 0.0
    for band in range((parts.n + 1) // 2):
        total += team.values[band]
    wait_for_all(team)
    return total


@kernel
def least_of(team, parts):
    """As `total_of`, the smallest value."""
    wait_for_all(team)
    least = team.values[0]
    for band in range(1, (parts.n + 1) // 2):
        least = min(least, team.values[band])
    wait_for_all(team)
    return least


@inlined
def share_of(n, band, parts):
    """The first of `n` rows that belong to a band, and the one after the last."""
    n_bands = (parts.n + 1) // 2
    return n * band // n_bands, n * (band + 1) // n_bands


@inlined
def rows_of(parts, p):
    """First row of positions of a part, and the one after the last."""
    return parts.rows[2 * p], parts.rows[2 * p + 1]


@inlined
def set_of(parts, p):
    """Working set of a part."""
    return working_set_of(
        parts.integers, parts.first_integer + INTEGERS * p, parts.floats, parts.first_float + FLOATS * p
    )


@inlined
def array_of(parts, p, k):
    """The k-th array of conjugate gradients of a part."""
    return part(parts.floats, parts.first_float + FLOATS * p + 3 + k)
