"""Convolutional dictionary learning: codes by basis pursuit, atoms by block descent on additive statistics."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state, gen_batches

from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_basis_pursuit
from skrobust.pursuits.lasso.conv.pursuit import in_floats
from skrobust.signals import batch_slices, convergence_warnings_ignored, data_exponent, per_axis, times_power

from .statistics import ConvolutionalStatistics

UNUSED_SHARE = 1e-3
"""Atoms used less than this share of the mean usage are replaced."""

FIRST_TOL = 0.1
"""Relative gap of the codes of the first epoch, whose atoms are poor; later epochs use the last relative decrease."""


def initial_convolutional_atoms(X, n_components, kernel_size, *, init="data", random_state=None):
    """Initial atoms of norm 1.

    Parameters
    ----------
    X : ndarray of shape ``(n_samples, *grid, n_channels)``
    n_components : int
    kernel_size : int or tuple of int
        One for all axes or one per axis; at most the size of the grid.
    init : {"data", "random"}, default="data"
        "data": random patches of X, the one with most energy of a few draws each. "random": Gaussian noise.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    ndarray of shape ``(n_components, *kernel_size, n_channels)``

    Raises
    ------
    ValueError
        If a parameter is invalid for X.
    """
    X = _signals(X)
    if init not in ("data", "random"):
        raise ValueError(f"init must be 'data' or 'random', got {init!r}.")
    if not (isinstance(n_components, Integral) and n_components >= 1):
        raise ValueError(f"n_components must be an integer >= 1, got {n_components!r}.")
    kernel_size = _checked_kernel(kernel_size, X.shape[1:-1])
    X = times_power(X, -data_exponent(X))
    random_state = check_random_state(random_state)
    shape = (*kernel_size, X.shape[-1])
    if init == "random":
        return unit_atoms(random_state.normal(size=(n_components, *shape)), random_state)
    atoms = np.empty((n_components, *shape))
    for k in range(n_components):
        draws = [_patch(X, kernel_size, random_state) for _ in range(4)]
        # Deviations from the mean, because flat patches have no structure.
        atoms[k] = max(draws, key=lambda patch: float(((patch - patch.mean()) ** 2).sum()))
    return unit_atoms(atoms, random_state)


def _signals(X):
    X = in_floats(X)
    if X.ndim not in (3, 4) or X.size == 0:
        raise ValueError(f"X must have shape (n_samples, *grid, n_channels) with samples to learn from, got {X.shape}.")
    return X


def _checked_kernel(kernel_size, grid):
    sizes = per_axis("kernel_size", kernel_size, len(grid))
    if any(k > n for k, n in zip(sizes, grid, strict=True)):
        raise ValueError(f"kernel_size={kernel_size!r} does not fit signals on a grid of {tuple(grid)}.")
    return sizes


def unit_atoms(atoms, random_state):
    """Atoms divided by their norms; zero atoms are replaced by noise."""
    flat = times_power(atoms, -data_exponent(atoms)).reshape(len(atoms), -1)
    empty = np.linalg.norm(flat, axis=1) <= 1e-10 * np.abs(flat).max()
    if empty.any():
        flat = flat.copy()
        flat[empty] = random_state.normal(size=(int(empty.sum()), flat.shape[1]))
    return (flat / np.linalg.norm(flat, axis=1, keepdims=True)).reshape(atoms.shape)


def _patch(X, kernel_size, random_state):
    corner = [random_state.randint(n - k + 1) for n, k in zip(X.shape[1:-1], kernel_size, strict=True)]
    window = tuple(slice(c, c + k) for c, k in zip(corner, kernel_size, strict=True))
    return X[(random_state.randint(len(X)), *window)].astype(np.float64)


class ConvolutionalLearner:
    """State of learning a convolutional dictionary, batch or online.

    With codes fixed, the squared error is a quadratic function of the atoms, kept as sums over all codes
    (`ConvolutionalStatistics`); each update is block descent on it within the unit ball, as in [1]_, and atoms are
    then scaled to norm 1. Online, older sums decay.

    Parameters
    ----------
    components : ndarray of shape ``(n_components, *kernel_size, n_channels)``
        Initial atoms.
    alpha : float
    padding : {"same", "full", "valid", "circular"}, default="same"
    stride : int, default=1
    positive : bool, default=False
        Codes >= 0.
    tol : float, default=1e-2
        Relative duality gap of the codes.
    max_iter : int, default=200
        Maximum number of sweeps of each pursuit.
    random_state : int, RandomState instance or None, default=None
        For the atoms that replace unused ones.
    n_jobs : int or None, default=None

    Attributes
    ----------
    components : ndarray
    objective : float
        Mean per signal over the last batch or epoch, with the atoms used for its codes.

    References
    ----------
    .. [1] J. Mairal, F. Bach, J. Ponce, G. Sapiro, "Online learning for matrix factorization and sparse coding", JMLR
       2010.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import ConvolutionalLearner, initial_convolutional_atoms
    >>> X = np.random.default_rng(0).normal(size=(4, 20, 1))
    >>> atoms = initial_convolutional_atoms(X, 3, (5,), random_state=0)
    >>> learner = ConvolutionalLearner(atoms, alpha=0.5, random_state=0)
    >>> before = learner.epoch(X).objective
    >>> bool(learner.epoch(X).objective < before)
    True
    """

    def __init__(
        self,
        components,
        alpha,
        *,
        padding="same",
        stride=1,
        positive=False,
        tol=1e-2,
        max_iter=200,
        random_state=None,
        n_jobs=None,
    ):
        self.components = np.array(components)
        self.alpha, self.padding, self.stride, self.positive = alpha, padding, stride, positive
        self.tol, self.max_iter, self.n_jobs = tol, max_iter, n_jobs
        self.random_state = check_random_state(random_state)
        self.statistics = ConvolutionalStatistics(self.components.shape)
        self.n_seen = 0
        # Sums, codes and this cost refer to signals divided by 2**exponent.
        self._exponent, self._cost = 0, np.inf
        self._codes = None
        self._worst = None
        self._tol = max(tol, FIRST_TOL)

    @property
    def objective(self):
        return times_power(float(self._cost), 2 * self._exponent)

    def epoch(self, X):
        """One pass over all signals, then one update of the atoms; sparse codes are kept for the next warm start.

        Parameters
        ----------
        X : ndarray of shape ``(n_samples, *grid, n_channels)``

        Returns
        -------
        self
        """
        X = _signals(X)
        X = self._in_units(X, data_exponent(X))
        statistics = ConvolutionalStatistics(self.components.shape)
        operator = self._operator(X)
        code_shape = (-1, *operator.code_shape)
        epoch_codes, total = [], 0.0
        self._worst = None
        n_values = int(np.prod(operator.code_shape))
        # Memory: codes three times, and the design matrix twice, for a twentieth of nonzero codes.
        n_bytes = n_values * (3 * X.itemsize + 32 * int(np.prod(self.components.shape[1:-1])) // 20)
        slices = list(batch_slices(len(X), n_bytes))
        for i, batch in enumerate(slices):
            before = None
            if self._codes is not None and len(self._codes) == len(slices):
                before = self._codes[i].toarray().reshape(code_shape)
            result = self._pursue(X[batch], operator, before, self._tol)
            statistics.add(X[batch], result.codes, operator.geometry, n_jobs=self.n_jobs)
            self._remember_worst(X[batch], result.codes, operator)
            total += float(result.objective.sum())
            epoch_codes.append(sparse.csr_array(result.codes.reshape(len(result.codes), -1)))
        self._codes = epoch_codes
        self.statistics, self.n_seen = statistics, len(X)
        if np.isfinite(self._cost) and self._cost > 0:
            decrease = 1 - total / len(X) / self._cost
            self._tol = min(self._tol, max(self.tol, decrease))
        self._cost = total / len(X)
        self._update(X.dtype)
        return self

    def update(self, X):
        """Learn from one more batch: add its sums to the decayed older ones, and update the atoms.

        Parameters
        ----------
        X : ndarray of shape ``(n_samples, *grid, n_channels)``

        Returns
        -------
        self
        """
        X = _signals(X)
        exponent = data_exponent(X)
        X = self._in_units(X, max(self._exponent, exponent) if self.n_seen else exponent)
        operator = self._operator(X)
        self.n_seen += len(X)
        # As in MiniBatchDictionaryLearning: early batches, coded with poor atoms, lose weight.
        n_batches = self.n_seen / len(X)
        theta = self.n_seen if n_batches < len(X) else len(X) ** 2 + n_batches - len(X)
        self.statistics.decay(max(0.0, (theta + 1 - len(X)) / (theta + 1)))
        total = 0.0
        self._worst = None
        n_values = int(np.prod(operator.code_shape))
        n_bytes = n_values * (3 * X.itemsize + 32 * int(np.prod(self.components.shape[1:-1])) // 20)
        for batch in batch_slices(len(X), n_bytes):
            result = self._pursue(X[batch], operator, None, self.tol)
            self.statistics.add(X[batch], result.codes, operator.geometry, n_jobs=self.n_jobs)
            self._remember_worst(X[batch], result.codes, operator)
            total += float(result.objective.sum())
        self._cost = total / len(X)
        self._codes = None
        self._update(X.dtype)
        return self

    def pass_online(self, X, batch_size):
        """One pass over all signals in random order, with one update per batch.

        Parameters
        ----------
        X : ndarray of shape ``(n_samples, *grid, n_channels)``
        batch_size : int

        Returns
        -------
        self
        """
        X = _signals(X)
        order = self.random_state.permutation(len(X))
        total = 0.0
        for batch in gen_batches(len(X), batch_size):
            rows = order[batch]
            total += self.update(X[rows]).objective * len(rows)
        self._cost = times_power(total / len(X), -2 * self._exponent)
        return self

    def _in_units(self, X, exponent):
        """X divided by ``2**exponent``; the stored sums are converted to the same unit."""
        shift = self._exponent - exponent
        self.statistics.gram = times_power(self.statistics.gram, 2 * shift)
        self.statistics.products = times_power(self.statistics.products, 2 * shift)
        self.statistics.energy = times_power(self.statistics.energy, 2 * shift)
        for codes in self._codes or ():
            codes.data = times_power(codes.data, shift)
        self._exponent, self._cost = exponent, times_power(float(self._cost), 2 * shift)
        return times_power(X, -exponent)

    def _operator(self, X):
        return ConvolutionalOperator(
            self.components.astype(X.dtype), X.shape[1:], padding=self.padding, stride=self.stride
        )

    def _pursue(self, X, operator, init, tol):
        with convergence_warnings_ignored():  # codes that miss the gap are still useful for learning
            return convolutional_basis_pursuit(
                X,
                operator,
                times_power(float(self.alpha), -self._exponent),
                positive=self.positive,
                init=init,
                tol=tol,
                max_iter=self.max_iter,
                n_jobs=self.n_jobs,
            )

    def _remember_worst(self, X, codes, operator):
        """Store the worst represented patches, to replace unused atoms."""
        residual = X - operator.synthesize(codes, n_jobs=self.n_jobs)
        energies = (residual.astype(np.float64) ** 2).sum(axis=-1).reshape(len(X), -1)
        worst_pixels = energies.argmax(axis=1)
        worst_samples = np.argsort(-energies.max(axis=1))[: len(self.components)]
        candidates = [(float(energies[n, worst_pixels[n]]), n) for n in worst_samples]
        patches = self._worst or []
        grid, kernel = X.shape[1:-1], self.components.shape[1:-1]
        for energy, n in candidates:
            centre = np.unravel_index(worst_pixels[n], grid)
            corner = [min(max(c - k // 2, 0), g - k) for c, k, g in zip(centre, kernel, grid, strict=True)]
            window = tuple(slice(c, c + k) for c, k in zip(corner, kernel, strict=True))
            patches.append((energy, X[(n, *window)].astype(np.float64)))
        self._worst = sorted(patches, key=lambda pair: -pair[0])[: len(self.components)]

    def _update(self, dtype):
        improved = self.statistics.improve(self.components)
        usage = self.statistics.usage()
        unused = np.flatnonzero(usage <= UNUSED_SHARE * usage.mean()) if usage.any() else np.arange(0)
        for atom, (energy, patch) in zip(unused, self._worst, strict=False):
            if energy > 0:
                improved[atom] = patch
        self.components = unit_atoms(improved, self.random_state).astype(dtype)
