"""Which columns of a structured dictionary can overlap, from positions of atoms and connections, not from values."""

import numpy as np
from scipy import sparse

from skrobust.operators.layered.skips import SkipConnection


class LayeredStructure:
    """Supports of the columns of a `LayeredDictionary`, factored along the axes of the grid.

    A column of layer k has an atom of that layer in block row k, a 1 in row k + 1, and entries of skip connections in
    later rows. In each row its support is a product of one set per axis and a set of channels.
    """

    def __init__(self, layers):
        self.layers = layers
        self.rows = [
            sorted({k, *([k + 1] if k + 1 < layers.n_layers else []), *self._targets_of(k)})
            for k in range(layers.n_layers)
        ]
        self._axes, self._channels = {}, {}
        for k in range(layers.n_layers):
            self._add_layer(k)

    def _targets_of(self, k):
        return [to for to, source in self.layers.skips if source == k]

    def _add_layer(self, k):
        operator = self.layers.operators[k]
        n_atoms = operator.code_shape[-1]
        self._axes[k, k] = _pixel_incidence(operator.geometry)
        self._channels[k, k] = np.ones((operator.signal_shape[-1], n_atoms), dtype=bool)
        if k + 1 < self.layers.n_layers:
            self._axes[k, k + 1] = [sparse.eye_array(n, format="csr") for n in operator.code_shape[:-1]]
            self._channels[k, k + 1] = np.eye(n_atoms, dtype=bool)
        for to in self._targets_of(k):
            skip = self.layers.skips[to, k].on_arrays()
            self._axes[k, to] = _skip_incidence(skip)
            size = skip.target_shape[-1], skip.source_shape[-1]
            self._channels[k, to] = np.eye(*size, dtype=bool) if skip.matrix is None else skip.matrix != 0

    def common_rows(self, k, j):
        """Block rows in which columns of both layers have entries."""
        return [row for row in self.rows[k] if row in self.rows[j]]

    def n_pairs(self, k, j):
        """Number of pairs of columns of layers k and j with overlapping supports; for k = j including (i, i)."""
        rows = self.common_rows(k, j)
        if not rows:
            return 0
        overlapping = np.stack([self._channels[k, row].T.astype(np.int64) @ self._channels[j, row] > 0 for row in rows])
        patterns, counts = np.unique(overlapping.reshape(len(rows), -1), axis=1, return_counts=True)
        total = 0
        for pattern, count in zip(patterns.T, counts, strict=True):
            positions = [self._positions(k, j, row) for row, overlap in zip(rows, pattern, strict=True) if overlap]
            if positions:
                total += int(count) * sum(positions).nnz
        return total

    def _positions(self, k, j, row):
        """Sparse matrix over the whole grid: which positions of layers k and j overlap in a block row."""
        axes = [(a.T @ b).tocsr() for a, b in zip(self._axes[k, row], self._axes[j, row], strict=True)]
        matrix = axes[0]
        for axis in axes[1:]:
            matrix = sparse.kron(matrix, axis, format="csr")
        return matrix

    def colors(self, k):
        """Colours of the positions along each axis: columns of one colour have no common neighbour.

        No column of any layer overlaps two columns of layer k whose positions differ but have the same colours along
        all axes.
        """
        axis_colors = []
        for axis in range(len(self.layers.code_shapes[k]) - 1):
            conflicts = 0
            for j in range(self.layers.n_layers):
                rows = self.common_rows(k, j)
                if rows:
                    overlaps = sum(self._axes[k, row][axis].T @ self._axes[j, row][axis] for row in rows)
                    conflicts = conflicts + overlaps @ overlaps.T
            axis_colors.append(_greedy_colors(conflicts.tocsr()))
        return axis_colors


def _pixel_incidence(geometry):
    """Which pixels (rows) an atom at a position (columns) covers, along each axis."""
    axes = []
    for n, kernel, stride, offset, n_positions in zip(
        geometry.grid, geometry.kernel_size, geometry.stride, geometry.offset, geometry.code_grid, strict=True
    ):
        pixels = np.arange(n_positions)[:, None] * stride - offset + np.arange(kernel)
        positions = np.broadcast_to(np.arange(n_positions)[:, None], pixels.shape)
        if geometry.wraps:
            pixels = pixels % n
        inside = (pixels >= 0) & (pixels < n)
        axes.append(_incidence(pixels[inside], positions[inside], (n, n_positions)))
    return axes


def _skip_incidence(skip):
    """Which positions of the target (rows) read which of the source (columns), along each axis."""
    source, target = skip.source_shape[:-1], skip.target_shape[:-1]
    grid_map = SkipConnection((*source, 1), (*target, 1))
    axes = []
    for axis, n in enumerate(source):
        # Apply the connection to the numbers 1, 2, ... along the axis: positions that read nothing get 0.
        numbers = np.broadcast_to(np.arange(1.0, n + 1).reshape(-1, *[1] * (len(source) - axis - 1)), source)
        moved = grid_map.apply(numbers[None, ..., None])[0, ..., 0]
        line = np.moveaxis(moved, axis, 0).reshape(target[axis], -1)[:, 0].astype(int)
        (to,) = np.nonzero(line)
        axes.append(_incidence(to, line[to] - 1, (target[axis], n)))
    return axes


def _incidence(rows, columns, shape):
    return sparse.csr_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=shape)


def _greedy_colors(conflicts):
    """The smallest colour that no earlier neighbour has, in turn."""
    colors = np.full(conflicts.shape[0], -1)
    for i in range(len(colors)):
        neighbours = conflicts.indices[conflicts.indptr[i] : conflicts.indptr[i + 1]]
        used = set(colors[neighbours].tolist())
        colors[i] = next(c for c in range(len(used) + 1) if c not in used)
    return colors
