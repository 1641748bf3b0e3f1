"""Coherence of a dictionary, local sparsity of a code, and bounds from them."""

from numbers import Integral

import numpy as np
from scipy import fft

from skrobust.operators.conv.geometry import stripe_counts


def mutual_coherence(components):
    """Largest normalised inner product of two different atoms; of convolutional ones at all shifts.

    ``mu(D) = max |<d_i, d_j>| / (||d_i|| ||d_j||)`` over pairs of columns of D: for a convolutional dictionary every
    atom at every position, so that an atom is also compared with its own shifts ([1]_).

    Parameters
    ----------
    components : array-like of shape (n_atoms, n_features) or ``(n_atoms, *kernel_size, n_channels)``
        Patches, or (of three or four dimensions) the atoms of a convolutional dictionary on an unbounded grid.

    Returns
    -------
    float
        In [0, 1]; 0 for a single atom without shifts.

    Raises
    ------
    ValueError
        If an atom is zero, or `components` has another number of dimensions.

    References
    ----------
    .. [1] V. Papyan, J. Sulam, M. Elad, "Working locally thinking globally: theoretical guarantees for convolutional
       sparse coding", IEEE Trans. Signal Process. 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import mutual_coherence
    >>> mutual_coherence([[1.0, 0.0], [0.6, 0.8]])
    0.6
    >>> round(mutual_coherence(np.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 4, 1)), 12)  # shifted by one pixel
    0.5
    """
    # For equal atoms rounding may give more than 1.
    return min(1.0, float(max((row.max(initial=0.0) for row in _rows_of_products(components)), default=0.0)))


def babel_function(components, max_k=None):
    """The Babel function: largest sum of inner products of an atom with k others.

    ``mu_1(k) = max_i max_{|J| = k, i not in J} sum_{j in J} |<d_i, d_j>|`` for atoms of norm 1; at most ``k mu``.

    Parameters
    ----------
    components : array-like of shape (n_atoms, n_features) or ``(n_atoms, *kernel_size, n_channels)``
        As for `mutual_coherence`.
    max_k : int or None, default=None
        Largest k. None: as many as there are columns that overlap an atom.

    Returns
    -------
    ndarray of shape (max_k + 1,)
        Values of ``mu_1(0) = 0, mu_1(1) = mu``, and so on.

    References
    ----------
    J. Tropp, "Greed is good: algorithmic results for sparse approximation", IEEE Trans. Inf. Theory 2004.

    Examples
    --------
    >>> from skrobust.dictionaries import babel_function
    >>> babel_function([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    array([0. , 0.8, 1.4])
    """
    if max_k is not None and not (isinstance(max_k, Integral) and max_k >= 0):
        raise ValueError(f"max_k must be None or an integer >= 0, got {max_k!r}.")
    highest = np.zeros(1 if max_k is None else max_k + 1)
    for row in _rows_of_products(components):
        sums = np.concatenate([[0.0], np.cumsum(np.sort(row)[::-1])])
        if max_k is None and len(sums) > len(highest):
            highest = np.pad(highest, (0, len(sums) - len(highest)), mode="edge")
        length = min(len(sums), len(highest))
        highest[:length] = np.maximum(highest[:length], sums[:length])
        highest[length:] = np.maximum(highest[length:], sums[-1])
    return highest


def restricted_isometry_bound(components, k):
    """Bound on the restricted isometry constant: ``delta_k <= mu_1(k - 1) <= (k - 1) mu``, for atoms of norm 1.

    For a convolutional dictionary and codes with at most k atoms in a stripe it bounds the stripe constant ([1]_).

    Parameters
    ----------
    components : array-like of shape (n_atoms, n_features) or ``(n_atoms, *kernel_size, n_channels)``
        As for `mutual_coherence`.
    k : int

    Returns
    -------
    float
        A bound of 1 or more says nothing.

    References
    ----------
    .. [1] Y. Romano, A. Aberdam, J. Sulam, M. Elad, "Adversarial noise attacks of deep learning architectures:
       stability analysis via sparse-modeled signals", J. Math. Imaging Vis. 2020.

    Examples
    --------
    >>> from skrobust.dictionaries import restricted_isometry_bound
    >>> restricted_isometry_bound([[1.0, 0.0], [0.6, 0.8]], 2)
    0.6
    """
    if not (isinstance(k, Integral) and k >= 1):
        raise ValueError(f"k must be an integer >= 1, got {k!r}.")
    return float(babel_function(components, k - 1)[-1])


def welch_bound(components_shape):
    """Lower bound on the mutual coherence of any dictionary of this shape.

    For m atoms in n dimensions ``sqrt((m - n) / (n (m - 1)))``; for m convolutional atoms on c channels, whose S
    shifts overlap, ``sqrt((m / c - 1) / (m S - 1))``.

    Parameters
    ----------
    components_shape : tuple of int
        ``(n_atoms, n_features)`` or ``(n_atoms, *kernel_size, n_channels)``.

    Returns
    -------
    float
        0 if there are no more atoms than dimensions (channels).

    References
    ----------
    L. Welch, "Lower bounds on the maximum cross correlation of signals", IEEE Trans. Inf. Theory 1974.

    Examples
    --------
    >>> from skrobust.dictionaries import welch_bound
    >>> round(welch_bound((3, 2)), 12)
    0.5
    """
    shape = tuple(int(n) for n in components_shape)
    if len(shape) not in (2, 3, 4) or min(shape) < 1:
        raise ValueError(
            f"components_shape must be (n_atoms, n_features) or (n_atoms, *kernel_size, n_channels), got {shape}."
        )
    n_atoms, dimensions = shape[0], shape[-1]
    if n_atoms <= dimensions:
        return 0.0
    n_shifts = int(np.prod([2 * k - 1 for k in shape[1:-1]]))  # 1 for patches, whose dimensions are their channels
    return float(np.sqrt((n_atoms / dimensions - 1) / (n_atoms * n_shifts - 1)))


def stripe_sparsity(codes, kernel_size, *, stride=1, circular=False, grid=None):
    """The local norm l0,inf: the largest number of atoms of a code that overlap the atoms at one position.

    Parameters
    ----------
    codes : array-like of shape ``(n_samples, *code_grid, n_components)``
    kernel_size : int or tuple of int
    stride : int or tuple of int, default=1
    circular : bool, default=False
        Atoms wrap around the grid.
    grid : int, tuple of int or None, default=None
        Pixels along each axis, for ``circular=True``. With a stride, grids of several sizes have codes of this shape;
        None: the smallest, on which most atoms overlap, so that the result is never too small.

    Returns
    -------
    ndarray of int of shape (n_samples,)

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import stripe_sparsity
    >>> codes = np.array([1, 0, 0, 2, 0, 0, 0, 3]).reshape(1, 8, 1)
    >>> stripe_sparsity(codes, 3), stripe_sparsity(codes, 4), stripe_sparsity(codes, 3, circular=True)
    (array([2]), array([2]), array([3]))
    """
    codes = np.asarray(codes)
    n_axes = codes.ndim - 2
    kernel, strides = _sizes("kernel_size", kernel_size, n_axes), _sizes("stride", stride, n_axes)
    if n_axes not in (1, 2) or len(kernel) != n_axes or len(strides) != n_axes or 0 in codes.shape[1:]:
        raise ValueError(
            f"codes must have shape (n_samples, *code_grid, n_components) with as many code_grid axes (1 or 2) as "
            f"kernel_size and stride have entries, got codes of shape {np.shape(codes)}, kernel_size={kernel_size!r}, "
            f"stride={stride!r}."
        )
    circle = None
    if circular:
        smallest = tuple((p - 1) * s + 1 for p, s in zip(codes.shape[1:-1], strides, strict=True))
        circle = smallest if grid is None else _sizes("grid", grid, n_axes)
        if tuple(-(-n // s) for n, s in zip(circle, strides, strict=False)) != codes.shape[1:-1]:
            raise ValueError(
                f"grid={grid!r} does not fit codes of shape {codes.shape} with stride={stride!r}: along each axis it "
                f"needs ceil(grid / stride) positions, as a grid of {smallest} has. Leave it None, or correct it."
            )
    n_atoms = (codes != 0).sum(axis=-1)
    return stripe_counts(n_atoms, kernel, strides, circle).max(axis=tuple(range(1, n_atoms.ndim)))


def largest_patch_norm(X, kernel_size, *, circular=False):
    """The local norm l2,inf: the largest norm of a patch of each signal, at any pixel.

    Parameters
    ----------
    X : array-like of shape ``(n_samples, *grid, n_channels)``
    kernel_size : int or tuple of int
    circular : bool, default=False
        Patches wrap around the grid.

    Returns
    -------
    ndarray of shape (n_samples,)

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import largest_patch_norm
    >>> largest_patch_norm(np.array([3.0, 4.0, 0.0, 4.0]).reshape(1, 4, 1), 2)
    array([5.])
    >>> largest_patch_norm(np.array([3.0, 0.0, 0.0, 4.0]).reshape(1, 4, 1), 2, circular=True)
    array([5.])
    """
    energies = (np.asarray(X, dtype=np.float64) ** 2).sum(axis=-1)
    n_axes = energies.ndim - 1
    kernel = _sizes("kernel_size", kernel_size, n_axes)
    if n_axes < 1 or len(kernel) != n_axes or 0 in energies.shape[1:]:
        raise ValueError(f"kernel_size={kernel_size!r} does not fit X of shape {np.shape(X)}.")
    for axis, k in enumerate(kernel, start=1):
        k = min(k, energies.shape[axis])
        if circular:
            energies = np.concatenate([energies, energies.take(range(k - 1), axis)], axis)
        windows = np.lib.stride_tricks.sliding_window_view(energies, k, axis)
        energies = windows.sum(axis=-1)
    return np.sqrt(energies.max(axis=tuple(range(1, energies.ndim))))


def _sizes(name, sizes, n_axes):
    """One size per axis."""
    sizes = (sizes,) * n_axes if isinstance(sizes, Integral) else sizes
    if not (isinstance(sizes, (tuple, list)) and all(isinstance(size, Integral) and size >= 1 for size in sizes)):
        raise ValueError(f"{name} must be an integer >= 1, or one for each axis, got {sizes!r}.")
    return tuple(sizes)


def _rows_of_products(components):
    """Magnitudes of the inner products of each atom with all other columns of the dictionary that overlap it."""
    atoms = np.asarray(components, dtype=np.float64)
    if atoms.ndim not in (2, 3, 4) or atoms.size == 0:
        raise ValueError(
            "components must have shape (n_atoms, n_features) or (n_atoms, *kernel_size, n_channels), got "
            f"{atoms.shape}."
        )
    norms = np.linalg.norm(atoms.reshape(len(atoms), -1), axis=1)
    if not (norms > 0).all() or not np.isfinite(norms).all():
        raise ValueError(f"Atom {int(np.argmin(np.nan_to_num(norms)))} of components is zero or not finite.")
    atoms = atoms / norms.reshape(-1, *[1] * (atoms.ndim - 1))
    if atoms.ndim == 2:
        products = np.abs(atoms @ atoms.T)
        for i, row in enumerate(products):
            yield np.delete(row, i)
        return
    sizes = [2 * k - 1 for k in atoms.shape[1:-1]]
    axes = tuple(range(1, 1 + len(sizes)))
    transforms = fft.rfftn(atoms, s=sizes, axes=axes)
    for i in range(len(atoms)):
        cross = (transforms.conj() * transforms[i]).sum(axis=-1)
        row = np.abs(fft.irfftn(cross, s=sizes, axes=axes)).reshape(len(atoms), -1)
        row[i, 0] = 0.0  # the atom itself, unshifted
        yield np.concatenate([row[:i].ravel(), row[i, 1:], row[i + 1 :].ravel()])
