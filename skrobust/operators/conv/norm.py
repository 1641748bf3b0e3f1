"""The squared norm of convolutional synthesis: exact for small signals or codes, else an upper bound."""

import itertools
import math

import numpy as np
from scipy import fft

from .fft import Spectrum, least_circle, padded_sizes
from .largest_eigenvalue import STARTS, excess_of_products, of_matrix, of_products, of_stack
from .patches import PatchProducts

MOST_ROWS, MOST_PRODUCTS, MOST_PLACED, MOST_POSITIONS = 1200, 1 << 28, 1 << 21, 256
"""Limits for forming a Gram matrix: its rows, products of a matrix product and of atoms in place, and positions."""

SAMPLES = 48
"""Frequencies per axis and degree of the polynomial, if these are few; each such axis adds 0.2 % to the bound."""

LOOSE = 0.15
"""Expected relative excess of the bound from frequencies beyond which at least `N_STEPS` Lanczos steps follow."""

BUDGET = 1 << 27
"""Operations that Lanczos steps may take; more only for `N_STEPS` where the bound from frequencies is loose."""

N_STEPS, MOST_STEPS, TOL = 16, 60, 0.01
"""Lanczos steps, each of all starts: at least for loose bounds, and at most; the relative excess at which they stop."""

CALL = 3e4
"""Operations that take as long as a call of NumPy."""

ROUNDING = 1e-4
"""Relative allowance for the rounding errors of products in float32."""


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
    return bound if exact_on_circle else _by_products(components, geometry, bound)


def _gram(components, geometry):
    """D D^T or D^T D, whichever is smaller; None if both are too large."""
    n_atoms, n_channels = len(components), components.shape[-1]
    atoms = components.reshape(n_atoms, -1)
    n_values, n_codes = math.prod(geometry.grid) * n_channels, geometry.n_positions * n_atoms
    if min(n_values, n_codes) > MOST_ROWS:
        return None
    if geometry.is_dense:
        return atoms @ atoms.T if n_codes <= n_values else atoms.T @ atoms
    if geometry.n_positions > MOST_POSITIONS:
        return None
    if n_values <= n_codes and geometry.n_positions * atoms.shape[1] ** 2 <= MOST_PLACED:
        products, gram = atoms.T @ atoms, np.zeros((n_values, n_values))
        for values, taps in _supports(geometry, n_channels):
            gram[np.ix_(values, values)] += products[np.ix_(taps, taps)]
        return gram
    if n_values * n_codes * min(n_values, n_codes) > MOST_PRODUCTS:
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
    circle = least_circle(geometry)
    for n, k, c, s in zip(geometry.grid, geometry.kernel_size, circle, geometry.stride, strict=True):
        if geometry.wraps:  # a stride that does not divide the circle: use the bound of stride 1
            strides.append(s if n % s == 0 else 1)
            sizes.append(n)
        else:
            strides.append(s)
            enough, degree = fft.next_fast_len(-(-c // s)), (k - 1) // s
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
    small = np.moveaxis(fft.rfftn(components, s=n_lags, axes=axes), 0, -1)
    lags = small @ small.conj().swapaxes(-1, -2)
    lags = fft.irfftn(lags, s=n_lags, axes=range(len(kernel)))
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


def _by_products(components, geometry, bound):
    """A bound by products with the dictionary and its transpose in float32, at most `bound`."""
    n_atoms, n_channels = len(components), components.shape[-1]
    expected = np.inf if geometry.wraps else _border_excess(geometry)
    if expected <= TOL:
        return bound
    work, form = _cheapest(components, geometry)
    n_steps = max(N_STEPS if expected > LOOSE else 0, min(int(BUDGET / work), MOST_STEPS))
    n_values, n_codes = math.prod(geometry.grid) * n_channels, geometry.n_positions * n_atoms
    if excess_of_products(min(n_values, n_codes), n_steps) >= expected:
        return bound
    dictionary = form(components.astype(np.float32), geometry)
    if n_values <= n_codes:
        shape = *geometry.grid, n_channels
        apply = _composed(dictionary.analyze, dictionary.synthesize)
    else:
        shape = *geometry.code_grid, n_atoms
        apply = _composed(dictionary.synthesize, dictionary.analyze)
    return of_products(apply, shape, n_steps=n_steps, tol=TOL, upper=bound, rounding=ROUNDING)


def _border_excess(geometry):
    """Relative excess of the bound from frequencies, as for box-shaped atoms.

    Their eigenvalues near frequency 0 are ``1 - (k w)^2 / 12`` along an axis, and that of the longest wave on n pixels
    has w = pi / n.
    """
    return sum((math.pi * k / n) ** 2 for k, n in zip(geometry.kernel_size, geometry.grid, strict=True)) / 12


def _cheapest(components, geometry):
    """Operations of one product with D D^T of all starts, and the form of the dictionary that takes them.

    Operations of transforms; those of large matrix products count a tenth, and each addition of NumPy as `CALL`.
    """
    n_atoms, n_channels = len(components), components.shape[-1]
    size = math.prod(padded_sizes(geometry))
    transforms = 5 * STARTS * (n_atoms + n_channels) * math.log2(size)
    by_transforms = size * (16 * n_atoms * n_channels + transforms)
    taps = math.prod(geometry.kernel_size)
    by_patches = STARTS * geometry.n_positions * taps * n_channels * (0.4 * n_atoms + 10) + CALL * taps
    if geometry.wraps or by_transforms <= by_patches:
        return by_transforms, Spectrum
    return by_patches, PatchProducts


def _composed(first, second):
    return lambda values: second(first(values.astype(np.float32)))
