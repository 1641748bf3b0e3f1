"""The squared norm of convolutional synthesis: exact for small signals or codes, else an upper bound."""

import itertools
import math

import numpy as np
from scipy import fft

from .fft import Spectrum
from .largest_eigenvalue import of_matrix, of_products, of_stack

MOST_ROWS, MOST_ENTRIES, MOST_PRODUCTS = 1200, 1 << 24, 1 << 25
"""Limits for forming a Gram matrix: its size, the entries of the dictionary, and the number of products."""

SAMPLES = 32
"""Frequencies per axis and degree of the polynomial, if these are few; each such axis adds 0.5 % to the bound."""

WIDE = 0.25
"""For atoms wider than this share of the grid the bound from frequencies is loose, and Lanczos steps follow."""

N_STEPS, TOL = 40, 0.01
"""Maximum number of Lanczos steps (one synthesis and one analysis each), and relative excess at which they stop."""


def squared_norm(components, geometry):
    """Largest eigenvalue of D D^T, or an upper bound of it, for float64 components.

    For small problems the eigenvalue, at most 0.1 % too large. Otherwise the largest over the frequencies of a padded
    circle, or, for atoms that cover much of the grid, a bound by the Lanczos process.
    """
    top = float(np.abs(components).max())
    if top == 0:
        return 0.0
    unit = 2.0 ** math.frexp(top)[1]  # squares of squares do not overflow
    return _squared_norm(components / unit, geometry) * unit * unit


def _squared_norm(components, geometry):
    exact_on_circle = geometry.wraps and all(n % s == 0 for n, s in zip(geometry.grid, geometry.stride, strict=True))
    if not exact_on_circle:
        gram = _gram(components, geometry)
        if gram is not None:
            return of_matrix(gram)
    bound = _over_frequencies(components, geometry)
    wide = any(k > WIDE * n for k, n in zip(geometry.kernel_size, geometry.grid, strict=True))
    if exact_on_circle or not (wide or geometry.wraps):
        return bound
    return min(bound, _by_products(components, geometry))


def _gram(components, geometry):
    """D D^T or D^T D, whichever is smaller; None if both are too large."""
    n_atoms, n_channels = len(components), components.shape[-1]
    atoms = components.reshape(n_atoms, -1)
    n_values, n_codes = math.prod(geometry.grid) * n_channels, geometry.n_positions * n_atoms
    if min(n_values, n_codes) > MOST_ROWS:
        return None
    if geometry.is_dense:
        return atoms @ atoms.T if n_codes <= n_values else atoms.T @ atoms
    if n_values <= n_codes and geometry.n_positions * atoms.shape[1] ** 2 <= MOST_PRODUCTS:
        products, gram = atoms.T @ atoms, np.zeros((n_values, n_values))
        for values, taps in _supports(geometry, n_channels):
            gram[np.ix_(values, values)] += products[np.ix_(taps, taps)]
        return gram
    if n_values * n_codes > MOST_ENTRIES:
        return None
    dictionary = np.zeros((geometry.n_positions, n_atoms, n_values))
    for columns, (values, taps) in zip(dictionary, _supports(geometry, n_channels), strict=True):
        columns[:, values] = atoms[:, taps]
    rows = dictionary.reshape(n_codes, n_values)
    return rows @ rows.T if n_codes <= n_values else rows.T @ rows


def _supports(geometry, n_channels):
    """For each position, the values of a signal that an atom covers, and the matching values of the atom."""
    axes = []
    for n, k, s, o, p in zip(
        geometry.grid, geometry.kernel_size, geometry.stride, geometry.offset, geometry.code_grid, strict=True
    ):
        taps, of_axis = np.arange(k), []
        for position in range(p):
            pixels = position * s - o + taps
            inside = np.full(k, True) if geometry.wraps else (pixels >= 0) & (pixels < n)
            of_axis.append((pixels[inside] % n, taps[inside]))
        axes.append(of_axis)
    for position in itertools.product(*axes):
        yield tuple(
            _flat([ends[i] for ends in position], sizes, n_channels)
            for i, sizes in enumerate((geometry.grid, geometry.kernel_size))
        )


def _flat(positions, sizes, n_channels):
    """Flat indices of a product of positions along the axes, for all channels."""
    index = np.zeros(1, dtype=np.intp)
    for along, size in zip([*positions, np.arange(n_channels)], [*sizes, n_channels], strict=True):
        index = (index[:, None] * size + along).ravel()
    return index


def _over_frequencies(components, geometry):
    """Largest eigenvalue over frequencies of D(w) D(w)^H.

    Exact for a circular operator whose stride divides the grid. Otherwise it is that of the circular operator on the
    padded grid, of which the operator is a restriction: an upper bound, tight for signals larger than the atoms.

    With stride s, s frequencies per axis share one code frequency; their transfer functions are stacked. The
    eigenvalues are trigonometric polynomials of the code frequency, of degree d, the number of strides that an atom
    spans. It suffices to evaluate m frequencies per axis and divide the bound by cos(pi d / m) (H. Ehlich, K. Zeller,
    "Schwankung von Polynomen zwischen Gitterpunkten", Math. Z. 1964).
    """
    sizes, strides, between = [], [], 1.0
    for n, k, r, s in zip(geometry.grid, geometry.kernel_size, geometry.extent, geometry.stride, strict=True):
        if geometry.wraps:  # a stride that does not divide the circle: use the bound of stride 1
            strides.append(s if n % s == 0 else 1)
            sizes.append(n)
        else:
            strides.append(s)
            enough, degree = fft.next_fast_len(-(-max(n + k - 1, r - k + 1) // s)), (k - 1) // s
            few = max(1, SAMPLES * degree)
            if few <= 0.7 * enough:
                enough, between = few, between * math.cos(math.pi * degree / few)
            sizes.append(enough * s)
    n_atoms, n_channels = len(components), components.shape[-1]
    n_aliases = math.prod(strides)
    if n_aliases * n_channels <= n_atoms and n_aliases == 1:
        grams = _channel_grams(components, sizes)
    else:
        grams = _stacked_grams(components, sizes, strides)
    return of_stack(grams) / n_aliases / between


def _channel_grams(components, sizes):
    """``D(w) D(w)^H`` of half the frequencies, from correlations of channels, with fewer transforms than by atoms."""
    kernel, n_channels = components.shape[1:-1], components.shape[-1]
    axes = tuple(range(1, 1 + len(kernel)))
    n_lags = [
        min(2 * k - 1, n) for k, n in zip(kernel, sizes, strict=True)
    ]  # on short circles lags wrap around as well
    small = fft.fftn(components, s=n_lags, axes=axes)
    small = np.moveaxis(small, 0, -1).reshape(-1, n_channels, len(components))
    lags = small @ small.conj().swapaxes(-1, -2)
    lags = fft.ifftn(lags.reshape(*n_lags, n_channels, n_channels), axes=range(len(kernel))).real
    spread = np.zeros((*sizes, n_channels, n_channels))
    lags_at = [np.r_[: min(k, r), n - (r - min(k, r)) : n] for k, r, n in zip(kernel, n_lags, sizes, strict=True)]
    spread[np.ix_(*lags_at)] = lags
    grams = fft.rfftn(spread, axes=range(len(kernel))).reshape(-1, n_channels, n_channels)
    return (grams + grams.conj().swapaxes(-1, -2)) / 2


def _stacked_grams(components, sizes, strides):
    """Gram matrices of the transfer functions of half the base frequencies, over the smaller dimension."""
    axes = tuple(range(1, 1 + len(sizes)))
    bases = [size // s for size, s in zip(sizes, strides, strict=True)]
    half = bases[-1] // 2 + 1  # the other half are their conjugates
    transfer = fft.fftn(components, s=sizes, axes=axes)
    aliases = []
    for turn in itertools.product(*(range(s) for s in strides)):
        window = [slice(t * b, (t + 1) * b) for t, b in zip(turn, bases, strict=True)]
        window[-1] = slice(turn[-1] * bases[-1], turn[-1] * bases[-1] + half)
        aliases.append(transfer[(slice(None), *window)])
    stacked = np.concatenate(aliases, axis=-1)  # (n_components, *base frequencies, n_aliases * n_channels)
    matrices = np.moveaxis(stacked, 0, -1).reshape(-1, stacked.shape[-1], len(components))
    wide = matrices if matrices.shape[1] <= len(components) else matrices.conj().swapaxes(-1, -2)
    return wide @ wide.conj().swapaxes(-1, -2)


def _by_products(components, geometry):
    """A bound from a few products with the dictionary and its transpose."""
    spectrum = Spectrum(components, geometry)
    n_values = math.prod(geometry.grid) * components.shape[-1]
    if n_values <= geometry.n_positions * len(components):
        shape = 1, *geometry.grid, components.shape[-1]
        return of_products(lambda x: spectrum.synthesize(spectrum.analyze(x)), shape, n_steps=N_STEPS, tol=TOL)
    shape = 1, *geometry.code_grid, len(components)
    return of_products(lambda z: spectrum.analyze(spectrum.synthesize(z)), shape, n_steps=N_STEPS, tol=TOL)
