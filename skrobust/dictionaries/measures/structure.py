"""Which columns of a structured dictionary can overlap: by the places of atoms and connections, not by their values."""

import numpy as np
from scipy import sparse

from skrobust.operators.layered.skips import SkipConnection


class LayeredStructure:
    """Supports of the columns of a `LayeredDictionary`, factored along the axes of the grid.

    A column of layer k is an atom of its own dictionary in block row k, a one in row k + 1, and what connections bring
    in later rows. In each row its support is a product of one set an axis and a set of channels.
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
        self._axes[k, k] = _covered(operator.geometry)
        self._channels[k, k] = np.ones((operator.signal_shape[-1], n_atoms), dtype=bool)
        if k + 1 < self.layers.n_layers:
            self._axes[k, k + 1] = [sparse.eye_array(n, format="csr") for n in operator.code_shape[:-1]]
            self._channels[k, k + 1] = np.eye(n_atoms, dtype=bool)
        for to in self._targets_of(k):
            skip = self.layers.skips[to, k].on_arrays()
            self._axes[k, to] = _taken(skip)
            size = skip.target_shape[-1], skip.source_shape[-1]
            self._channels[k, to] = np.eye(*size, dtype=bool) if skip.matrix is None else skip.matrix != 0

    def common_rows(self, k, j):
        """Block rows in which columns of both layers have entries."""
        return [row for row in self.rows[k] if row in self.rows[j]]

    def n_pairs(self, k, j):
        """Pairs of a column of layer k and one of layer j whose supports meet, (i, i) among them where k is j."""
        rows = self.common_rows(k, j)
        if not rows:
            return 0
        meet = np.stack([self._channels[k, row].T.astype(np.int64) @ self._channels[j, row] > 0 for row in rows])
        patterns, counts = np.unique(meet.reshape(len(rows), -1), axis=1, return_counts=True)
        total = 0
        for pattern, count in zip(patterns.T, counts, strict=True):
            positions = [self._positions(k, j, row) for row, meets in zip(rows, pattern, strict=True) if meets]
            if positions:
                total += int(count) * sum(positions).nnz
        return total

    def _positions(self, k, j, row):
        """Which positions of layer k meet which of layer j in a row: a sparse matrix over the whole grid."""
        axes = [(a.T @ b).tocsr() for a, b in zip(self._axes[k, row], self._axes[j, row], strict=True)]
        whole = axes[0]
        for axis in axes[1:]:
            whole = sparse.kron(whole, axis, format="csr")
        return whole

    def colors(self, k):
        """Colours of the positions along each axis: columns of one colour have no common neighbour.

        Two columns of layer k at different positions, whose colours agree along every axis, overlap no third column
        both, of any layer.
        """
        found = []
        for axis in range(len(self.layers.code_shapes[k]) - 1):
            conflicts = 0
            for j in range(self.layers.n_layers):
                rows = self.common_rows(k, j)
                if rows:
                    near = sum(self._axes[k, row][axis].T @ self._axes[j, row][axis] for row in rows)
                    conflicts = conflicts + near @ near.T
            found.append(_greedy_colors(conflicts.tocsr()))
        return found


def _covered(geometry):
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


def _taken(skip):
    """Which places of the target (rows) take from which of the source (columns), along each axis."""
    source, target = skip.source_shape[:-1], skip.target_shape[:-1]
    places = SkipConnection((*source, 1), (*target, 1))
    axes = []
    for axis, n in enumerate(source):
        # Numbers from 1 on along the axis, carried over: zeros where nothing arrives.
        numbers = np.broadcast_to(np.arange(1.0, n + 1).reshape(-1, *[1] * (len(source) - axis - 1)), source)
        carried = places.apply(numbers[None, ..., None])[0, ..., 0]
        line = np.moveaxis(carried, axis, 0).reshape(target[axis], -1)[:, 0].astype(int)
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
        taken = set(colors[neighbours].tolist())
        colors[i] = next(c for c in range(len(taken) + 1) if c not in taken)
    return colors
