"""Deep mutual coherence, deep frame potential and Welch bounds of a structured dictionary, without its matrix."""

import math
from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from skrobust.operators import LayeredDictionary
from skrobust.operators.layered.skips import SkipConnection
from skrobust.signals import batch_slices, is_tensor

from .structure import LayeredStructure

ZERO = 1e-13
"""Columns with a squared norm below this share of the largest count as zero, because of rounding."""


class LayeredCoherence(NamedTuple):
    """Measures of a structured dictionary and of its layers, each in [0, 1].

    ``welch_bound <= frame_potential <= mutual_coherence``, up to rounding.

    Attributes
    ----------
    mutual_coherence : float
        Deep mutual coherence: the largest inner product of two different columns, divided by their norms.
    frame_potential : float
        Deep frame potential: the root mean square of these inner products over the pairs that can overlap.
    welch_bound : float
        Lower bound on the frame potential for any atoms.
    layer_mutual_coherence, layer_frame_potential, layer_welch_bound : ndarray of shape (n_layers,)
        The same of each layer's own dictionary.
    n_columns : int
    n_pairs : int
        Ordered pairs of different columns that can overlap.
    """

    mutual_coherence: float
    frame_potential: float
    welch_bound: float
    layer_mutual_coherence: np.ndarray
    layer_frame_potential: np.ndarray
    layer_welch_bound: np.ndarray
    n_columns: int
    n_pairs: int


class FramePotentialEstimate(NamedTuple):
    """A deep frame potential estimated by random probing.

    Attributes
    ----------
    frame_potential : float
    standard_error : float
    """

    frame_potential: float
    standard_error: float


def layered_coherence(layers, *, n_jobs=None):
    """Deep mutual coherence, deep frame potential and Welch bounds of a structured dictionary; exact.

    With G the Gram matrix of the columns, each divided by its norm, and N the number of its entries off the diagonal
    at which two columns have overlapping supports ([1]_ averages over the entries that are not zero)::

        mu = max_{i != j} |G_ij| ,    F = sqrt((||G||_F^2 - tr G) / N) .

    Whether columns can overlap is decided by sizes of kernels, strides, edges and connections, not by the values of
    atoms, so that N is the same for all atoms and orthogonal ones have F = 0. Columns are those of
    `LayeredDictionary.to_dense`, cut off where an atom crosses an edge: atoms with one remaining pixel are equal up to
    sign, and mu is 1. Zero columns are left out.

    Welch bounds hold for all atoms with the same norms of the columns. A dictionary of K columns and rank at most r has
    ``||G||_F^2 >= K^2 / r``. Chains have a sharper bound ([1]_): the block of each layer in the Gram matrix has such a
    rank, and the blocks between consecutive layers consist of the atoms, whose norms are given. Skip connections may
    cancel entries of these blocks; such blocks count as zero, and the bound is lower.

    A few hundred columns are measured at a time, within scikit-learn's ``working_memory``. Columns share a signal if no
    third column overlaps two of them. Only the numbers of overlapping positions are stored, as sparse matrices.

    Parameters
    ----------
    layers : LayeredDictionary
        For the chain without its skip connections pass ``LayeredDictionary(layers.operators)``.
    n_jobs : int or None, default=None
        Number of threads.

    Returns
    -------
    LayeredCoherence

    See Also
    --------
    estimate_frame_potential : The frame potential of large networks from random probes.
    mutual_coherence : Of atoms on an unbounded grid.

    References
    ----------
    .. [1] C. Murdock, S. Lucey, "Dataless model selection with the deep frame potential", CVPR 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import layered_coherence
    >>> from skrobust.operators import ConvolutionalOperator, LayeredDictionary
    >>> first = ConvolutionalOperator([[[1.0, 0.0]], [[0.6, 0.8]]], (1, 2))
    >>> second = ConvolutionalOperator([[[1.0, 0.0]], [[0.0, 1.0]]], (1, 2))
    >>> measures = layered_coherence(LayeredDictionary([first, second]))
    >>> measures.layer_mutual_coherence, round(measures.mutual_coherence, 6)  # (1, 0, -1, 0) / sqrt(2), (0, 0, 1, 0)
    (array([0.6, 0. ]), 0.707107)
    """
    _check_finite(layers)
    single = [_measure(LayeredDictionary([operator]), n_jobs) for operator in layers.operators]
    largest, potential, bound, n_columns, n_pairs = _measure(layers, n_jobs) if layers.n_layers > 1 else single[0]
    per_layer = [np.array([measures[i] for measures in single]) for i in range(3)]
    return LayeredCoherence(largest, potential, bound, *per_layer, n_columns, n_pairs)


def estimate_frame_potential(layers, n_probes=30, *, random_state=None, n_jobs=None):
    """The deep frame potential of a large network, estimated: ``||G - I||_F^2`` is the mean of ``||(G - I) z||^2``.

    The probes z are random signs (Hutchinson's estimator). Each costs one synthesis and one analysis of the whole
    network, for any number of columns.

    Parameters
    ----------
    layers : LayeredDictionary
    n_probes : int, default=30
        At least 2.
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Number of threads.

    Returns
    -------
    FramePotentialEstimate
        The estimate of the squared potential is unbiased; its standard error is propagated to the root.

    See Also
    --------
    layered_coherence : Exact, with mutual coherence and bounds.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import estimate_frame_potential, layered_coherence
    >>> from skrobust.operators import ConvolutionalOperator, LayeredDictionary
    >>> rng = np.random.default_rng(0)
    >>> first = ConvolutionalOperator(rng.normal(size=(8, 3, 3, 1)), (12, 12, 1))
    >>> layers = LayeredDictionary([first, ConvolutionalOperator(rng.normal(size=(8, 3, 3, 8)), first.code_shape)])
    >>> estimate = estimate_frame_potential(layers, random_state=0)
    >>> exact = layered_coherence(layers).frame_potential
    >>> bool(abs(estimate.frame_potential - exact) < 3 * estimate.standard_error < 0.1 * exact)
    True
    """
    if not (isinstance(n_probes, Integral) and n_probes >= 2):
        raise ValueError(f"n_probes must be an integer >= 2, got {n_probes!r}.")
    _check_finite(layers)
    random_state = check_random_state(random_state)
    structure = LayeredStructure(layers)
    inverses = [_inverse_norms(own, rest) for own, rest in _squared_norms(layers)]
    converted = _on_arrays(layers)
    ends = np.cumsum([math.prod(shape) for shape in layers.code_shapes])
    samples = []
    for batch in batch_slices(n_probes, 8 * 6 * int(ends[-1])):
        n = batch.stop - batch.start
        # Probe by probe, so that they do not depend on the batches.
        signs = np.stack([2.0 * random_state.randint(2, size=ends[-1]) - 1 for _ in range(n)])
        signs = [
            part.reshape(n, *shape)
            for part, shape in zip(np.split(signs, ends[:-1], axis=1), layers.code_shapes, strict=True)
        ]
        residuals = converted.residuals(
            np.zeros((n, *layers.data_shape)),
            [z * inverse for z, inverse in zip(signs, inverses, strict=True)],
            n_jobs=n_jobs,
        )
        squares = np.zeros(n)
        all_correlations = converted.correlate(residuals, n_jobs=n_jobs)
        for correlations, z, inverse in zip(all_correlations, signs, inverses, strict=True):
            off_diagonal = -correlations * inverse - z * (inverse > 0)
            squares += (off_diagonal**2).reshape(n, -1).sum(axis=1)
        samples.append(squares)
    samples = np.concatenate(samples)
    n_pairs = _n_pairs(structure)
    if n_pairs == 0:
        return FramePotentialEstimate(0.0, 0.0)
    mean, error = samples.mean() / n_pairs, samples.std(ddof=1) / math.sqrt(n_probes) / n_pairs
    potential = math.sqrt(mean)
    return FramePotentialEstimate(potential, error / (2 * potential) if potential else 0.0)


def _measure(layers, n_jobs):
    """Mutual coherence, frame potential, Welch bound, columns and pairs of one dictionary."""
    structure = LayeredStructure(layers)
    norms = _squared_norms(layers)
    inverses = [_inverse_norms(own, rest) for own, rest in norms]
    largest = squares = 0.0
    for k in range(layers.n_layers):
        block_largest, total = _gram_blocks(layers, structure, k, inverses, n_jobs)
        largest, squares = max(largest, block_largest), squares + total
    n_pairs = _n_pairs(structure)
    potential = math.sqrt(squares / n_pairs) if n_pairs else 0.0
    n_columns = sum(int((inverse > 0).sum()) for inverse in inverses)
    min_squares = _least_squares(layers, structure, norms, n_columns)
    bound = math.sqrt(min_squares / n_pairs) if n_pairs else 0.0
    return largest, potential, bound, n_columns, n_pairs


def _n_pairs(structure):
    n_layers = structure.layers.n_layers
    total = -sum(math.prod(shape) for shape in structure.layers.code_shapes)
    for k in range(n_layers):
        total += structure.n_pairs(k, k) + 2 * sum(structure.n_pairs(k, j) for j in range(k))
    return total


def _gram_blocks(layers, structure, k, inverses, n_jobs):
    """Largest entry, and sum of squares, of the Gram matrix between layer k and the layers up to it, off the diagonal.

    Blocks left of the diagonal count twice.
    """
    skips = {pair: skip.on_arrays() for pair, skip in layers.skips.items()}
    operator, shape = layers.operators[k], layers.code_shapes[k]
    sources = {j for j in range(k) if structure.common_rows(k, j)}
    positions = _positions_by_color(structure.colors(k), shape)
    n_atoms = shape[-1]
    largest = squares = 0.0
    size = math.prod(shape) + math.prod(operator.signal_shape) + sum(math.prod(layers.code_shapes[j]) for j in sources)
    for batch in batch_slices(len(positions) * n_atoms, 8 * 4 * size):
        impulses = np.zeros((batch.stop - batch.start, math.prod(shape[:-1]), n_atoms))
        for row, number in enumerate(range(batch.start, batch.stop)):
            color, atom = divmod(number, n_atoms)
            impulses[row, positions[color], atom] = 1.0
        impulses = impulses.reshape(-1, *shape)
        codes = impulses * inverses[k]
        # Block rows of these columns.
        rows = {k: operator.synthesize(codes, n_jobs=n_jobs)}
        for row in structure.rows[k][1:]:
            rows[row] = -codes if row == k + 1 else -skips[row, k].apply(codes)
        for j in {k, *sources}:
            products = operator.analyze(rows[k], n_jobs=n_jobs) if j == k else 0.0
            for row in structure.common_rows(k, j):
                if row == j + 1:
                    products = products - rows[row]
                elif (row, j) in skips:
                    products = products - skips[row, j].adjoint(rows[row])
            products = abs(products * inverses[j])
            if j == k:
                products[impulses > 0] = 0.0
            largest = max(largest, float(products.max()))
            squares += (1 if j == k else 2) * float((products**2).sum())
    return largest, squares


def _positions_by_color(colors, shape):
    """Flat positions of each colour of the grid, those of all axes combined."""
    combined = np.zeros(shape[:-1], dtype=int)
    for axis, axis_colors in enumerate(colors):
        combined = combined * (axis_colors.max() + 1) + axis_colors.reshape(-1, *[1] * (combined.ndim - axis - 1))
    flat = combined.ravel()
    order = np.argsort(flat, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(flat[order])) + 1)


def _squared_norms(layers):
    """For each layer, squared norms of its columns: the part in its own block row, and that in later rows."""
    norms = []
    for k, operator in enumerate(layers.operators):
        squared = operator.with_components(_array(operator.components) ** 2)
        own = squared.analyze(np.ones((1, *operator.signal_shape)))[0]
        rest = np.full(own.shape, float(k + 1 < layers.n_layers))
        for (_, source), skip in layers.skips.items():
            if source == k:
                skip = skip.on_arrays()
                matrix = None if skip.matrix is None else skip.matrix**2
                squared_skip = SkipConnection(skip.source_shape, skip.target_shape, matrix)
                rest += squared_skip.adjoint(np.ones((1, *skip.target_shape)))[0]
        norms.append((np.where(own > ZERO * own.max(), own, 0.0), rest))
    return norms


def _inverse_norms(own, rest):
    """One over the norms of columns; 0 for columns that are zero."""
    squared_norms = own + rest
    return np.where(squared_norms > 0, 1 / np.sqrt(np.where(squared_norms > 0, squared_norms, 1)), 0.0)


def _least_squares(layers, structure, norms, n_columns):
    """Lower bound on the sum of squares off the diagonal of the Gram matrix, for all atoms with these norms."""
    heights = [math.prod(operator.signal_shape) for operator in layers.operators]
    rank_bound = n_columns**2 / max(min(sum(heights), n_columns), 1) - n_columns
    block_bound = 0.0
    for k, (own, rest) in enumerate(norms):
        squared_norms = own + rest
        shares = np.divide(own, squared_norms, out=np.zeros_like(own), where=squared_norms > 0).ravel()
        connections = [to for to, source in layers.skips if source == k]
        if all(layers.skips[to, k].matrix is None for to in connections):
            rank = min(heights[k], int((shares > 0).sum()))
            if rank:
                block_bound += max(0.0, shares.sum() ** 2 / rank - (shares**2).sum())
        for j in range(k):
            if structure.common_rows(k, j) == [k] and _is_identity(layers, k, j):
                block_bound += 2 * shares.sum() / (norms[j][0] + norms[j][1]).max()
    return max(rank_bound, block_bound, 0.0)


def _is_identity(layers, k, j):
    """Whether the codes of layer j are the input of layer k without change."""
    if j == k - 1:
        return (k, j) not in layers.skips
    skip = layers.skips[k, j]
    return skip.matrix is None and skip.source_shape == skip.target_shape


def _on_arrays(layers):
    """The dictionary with the matrices of connections as arrays."""
    converted = LayeredDictionary(layers.operators)
    converted.skips = {pair: skip.on_arrays() for pair, skip in layers.skips.items()}
    return converted


def _check_finite(layers):
    for k, operator in enumerate(layers.operators):
        if not np.isfinite(_array(operator.components)).all():
            raise ValueError(f"The atoms of layer {k + 1} of layers have entries that are not finite.")


def _array(values):
    values = values.detach().cpu().numpy() if is_tensor(values) else np.asarray(values)
    return values.astype(np.float64, copy=False)
