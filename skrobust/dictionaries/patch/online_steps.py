"""Minibatches of online learning: the arrays of `online_kernels`, and the step that calls them."""

import numpy as np
from sklearn.utils import gen_batches

from skrobust.kernels.phases import COUNTERS
from skrobust.kernels.threads import on_threads
from skrobust.pursuits.greedy.omp.atoms import aligned_zeros, padded_width
from skrobust.pursuits.greedy.omp.batches import resolve_max_atoms

from .coding import GREEDY
from .descent import padded_features
from .online_kernels import PHASES, learn_greedy, learn_l1

CODE_BYTES = 1 << 26
"""Entries available for codes; larger minibatches are coded slice by slice."""

_BLOCK_BYTES, _BLOCK = 1 << 18, 128
"""Correlations, and signals, that a thread processes at a time."""

_WORTH_A_THREAD = 1 << 21
"""Multiply-adds that justify one more thread."""

L1_TOL = 0.1
"""Change of an l1 coefficient, relative to alpha, at which coding stops during learning."""


class MinibatchSteps:
    """Online learning from minibatches of X, for atoms of unit norm; parameters as of `OnlineDictionaryLearning`."""

    def __init__(
        self, X, n_atoms, batch_size, *, coding, n_nonzero_coefs, residual_tol, alpha, positive_code, positive_dict
    ):
        self.X = X = np.ascontiguousarray(X)
        d, dtype = X.shape[1], X.dtype
        is_greedy = coding in GREEDY
        max_atoms = resolve_max_atoms(n_nonzero_coefs, residual_tol, n_atoms, d) if is_greedy else n_atoms
        self.batch_size = min(batch_size, len(X))
        self.slice_size = n = max(1, min(self.batch_size, CODE_BYTES // (max_atoms * (4 + dtype.itemsize))))
        wide, tall = padded_width(n_atoms, dtype), padded_features(d, dtype)
        self.atoms = (
            aligned_zeros((d, wide), dtype),
            aligned_zeros((n_atoms, wide), dtype).reshape(-1),
            aligned_zeros((n_atoms, tall), dtype).reshape(-1),
            aligned_zeros((4, tall), dtype).reshape(-1),
        )
        # Zeros, so that every index is valid even if a value is NaN.
        self.codes = np.zeros((n, max_atoms), np.int32), np.empty((n, max_atoms), dtype), np.zeros(n, np.int32)
        n_entries = n * max_atoms
        self.by_atom = np.zeros(n_atoms + 1, np.int64), np.empty(n_entries, np.int32), np.empty(n_entries, np.int64)
        self.sums = aligned_zeros((n_atoms, n_atoms), dtype).reshape(-1), np.zeros(n_atoms * tall, dtype)
        self.energies = np.zeros(self.batch_size)
        self.positive = positive_dict
        self.block = max(16, min(_BLOCK, _BLOCK_BYTES // (wide * dtype.itemsize)))
        self.n_threads = max(1, min(n * wide * d // _WORTH_A_THREAD, -(-n // self.block)))
        if is_greedy:
            squared_tol = np.full(0 if residual_tol is None else self.block, residual_tol or 0.0) ** 2
            self.kernel, self.settings = learn_greedy, (coding == "ols", squared_tol)
        else:
            self.kernel, self.settings = learn_l1, (float(alpha), positive_code, L1_TOL * alpha)

    def learn(self, order, decays, components, gram, products, uses):
        """Learn from the signals in `order`, minibatch by minibatch; `decays` are the weights of the past sums.

        The last four arguments are overwritten. Returns the sum of the objective over the signals.

        Raises
        ------
        ValueError
            For values whose squares overflow.
        """
        slice_ends, batch_starts, slice_decays, is_last = [], [], [], []
        for batch, decay in zip(gen_batches(len(order), self.batch_size), decays, strict=True):
            for slice_ in gen_batches(batch.stop - batch.start, self.slice_size):
                batch_starts.append(batch.start)
                slice_ends.append(batch.start + slice_.stop)
                slice_decays.append(decay if slice_.start == 0 else 1.0)
                is_last.append(slice_ends[-1] == batch.stop)
        schedule = np.array(slice_ends), np.array(batch_starts), np.array(slice_decays, np.float64), np.array(is_last)
        costs = np.zeros(len(slice_ends))
        on_threads(
            self.kernel, self.X, order, schedule, (components, *self.atoms), self.codes, self.energies, self.by_atom,
            (gram, products, uses, *self.sums), self.positive, self.block, costs, *self.settings,
            n_pieces=self.n_threads, n_counters=COUNTERS * (1 + PHASES * len(slice_ends)),
        )  # fmt: skip
        with np.errstate(invalid="ignore"):
            check = costs.sum() + gram.trace() + products.sum()
        if not np.isfinite(check):
            raise ValueError(f"Values of X are too large for inner products in {self.X.dtype}: scale X down.")
        return costs.sum()
