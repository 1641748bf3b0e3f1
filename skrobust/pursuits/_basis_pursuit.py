"""Basis pursuit denoising (the lasso) of many signals over one dictionary."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils._param_validation import Interval, validate_params

from skrobust.signals import batch_slices, is_tensor, kernel_threads, scale_exponents, tell_of_shortfall, times_power

_DTYPES = (np.float64, np.float32)
_BATCH_BYTES = 1 << 26
"""Room for codes that are not packed yet."""


@validate_params(
    {
        "X": "no_validation",
        "components": "no_validation",
        "alpha": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "positive": ["boolean"],
        "tol": [Interval(Real, 0, 1, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "gram": "no_validation",
        "sparse_output": ["boolean"],
        "return_gap": ["boolean"],
        "n_jobs": [Integral, None],
    },
    prefer_skip_nested_validation=True,
)
def basis_pursuit(
    X,
    components,
    *,
    alpha,
    positive=False,
    tol=1e-4,
    max_iter=1000,
    gram=None,
    sparse_output=True,
    return_gap=False,
    n_jobs=None,
):
    """Sparse codes by the lasso, to a certified accuracy.

    For each row x of `X` the code z minimises ::

        1/2 ||x - z D||_2^2 + alpha ||z||_1

    where the rows of D are the atoms ([1]_). On the CPU by coordinate descent on working sets in the Gram domain, with
    gap-safe screening ([2]_, [3]_); on other devices by proximal gradient with momentum and adaptive restart ([4]_).

    Parameters
    ----------
    X : array-like or torch.Tensor of shape (n_signals, n_features)
        Signals, float32 or float64 (anything else becomes float64).
    components : array-like or torch.Tensor of shape (n_atoms, n_features)
        Atoms. They need not have unit norm, but the penalty then favours the long ones.
    alpha : float or array-like of shape (n_signals,)
        Weight of the l1 norm, > 0; that of scikit-learn's ``Lasso`` times `n_features`. From `alpha_max` on the
        code is zero.
    positive : bool, default=False
        Whether codes are >= 0.
    tol : float, default=1e-4
        Relative duality gap at which a signal is done: ``gap <= tol * objective``, so that the objective is certified
        to lie within that of its minimum. float32 attains about 1e-6.
    max_iter : int, default=1000
        Most sweeps over the working set of a signal (or gradient steps).
    gram : array-like of shape (n_atoms, n_atoms), default=None
        ``components @ components.T``, if at hand. It is made otherwise: memory is quadratic in `n_atoms`.
    sparse_output : bool, default=True
        Whether codes are sparse. Dense codes take ``n_signals * n_atoms`` numbers.
    return_gap : bool, default=False
        Whether to return the duality gaps as well.
    n_jobs : int or None, default=None
        Threads; the result does not depend on it. None: what the environment allows. Tensors off the CPU use none.

    Returns
    -------
    codes : scipy.sparse.csr_array, ndarray or torch.Tensor of shape (n_signals, n_atoms)
        In the dtype of `X`. Of tensors: a tensor on the device of `X`, sparse in coordinate format if `sparse_output`;
        its values are differentiable (once) with respect to `X` and `components`, the atoms in use and the signs of
        their coefficients held fixed.
    gap : ndarray or torch.Tensor of shape (n_signals,)
        Upper bound of how far the objective is above its minimum, to within rounding, float64; only if `return_gap`.

    Raises
    ------
    ValueError
        For NaN, infinity, empty input, shapes that do not fit, and `alpha` that is not positive.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If signals did not reach `tol`.

    See Also
    --------
    alpha_max : The smallest `alpha` whose code is zero.
    orthogonal_mp : Greedy codes with a bound on their atoms or their residual.

    References
    ----------
    .. [1] S. Chen, D. Donoho and M. Saunders, "Atomic decomposition by basis pursuit", SIAM J. Sci. Comput. 20, 1998.
    .. [2] O. Fercoq, A. Gramfort and J. Salmon, "Mind the duality gap: safer rules for the lasso", ICML 2015.
    .. [3] M. Massias, A. Gramfort and J. Salmon, "Celer: a fast solver for the lasso with dual extrapolation",
       ICML 2018.
    .. [4] B. O'Donoghue and E. Candes, "Adaptive restart for accelerated gradient schemes", Found. Comput. Math. 15,
       2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import basis_pursuit
    >>> X = np.array([[3.0, -1.0, 0.2]])
    >>> basis_pursuit(X, np.eye(3), alpha=0.5).toarray()
    array([[ 2.5, -0.5,  0. ]])
    >>> basis_pursuit(X, np.eye(3), alpha=0.5, positive=True).toarray()
    array([[2.5, 0. , 0. ]])
    """
    settings = {"positive": positive, "tol": tol, "max_iter": max_iter, "sparse_output": sparse_output}
    if is_tensor(X):
        from ._basis_pursuit_torch import basis_pursuit_of_tensors

        return basis_pursuit_of_tensors(
            X, components, alpha=alpha, gram=gram, return_gap=return_gap, n_jobs=n_jobs, **settings
        )
    X, components = _checked(X, components)
    alphas = one_alpha_per_signal(alpha, len(X))
    exponents = scale_exponents(X)
    with kernel_threads(n_jobs):
        codes, gap, n_unmet = _pursue(
            times_power(X, -exponents), components, times_power(alphas, -exponents), positive, tol, max_iter, gram
        )
    codes.data = times_power(codes.data, np.repeat(exponents, np.diff(codes.indptr)))
    gap = times_power(gap, 2 * exponents)
    warn_of_unmet(n_unmet, len(X), tol, max_iter)
    codes = codes if sparse_output else codes.toarray()
    return (codes, gap) if return_gap else codes


def alpha_max(X, components, *, positive=False):
    """Smallest `alpha` at which `basis_pursuit` codes a signal by zero: ``max_j |<x, d_j>|``.

    Parameters
    ----------
    X : array-like or torch.Tensor of shape (n_signals, n_features)
    components : array-like or torch.Tensor of shape (n_atoms, n_features)
    positive : bool, default=False
        Of codes >= 0: ``max_j x . d_j``, or 0 where all of these are negative.

    Returns
    -------
    ndarray or torch.Tensor of shape (n_signals,)

    Raises
    ------
    ValueError
        For NaN, infinity, empty input and shapes that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import alpha_max
    >>> alpha_max(np.array([[3.0, -4.0]]), np.eye(2))
    array([4.])
    >>> alpha_max(np.array([[3.0, -4.0]]), np.eye(2), positive=True)
    array([3.])
    """
    if is_tensor(X):
        from ._basis_pursuit_torch import checked_tensors

        X, components = checked_tensors(X, components)
        return _largest_correlations(X, components, positive).clamp_min(0)
    X, components = _checked(X, components)
    assert_all_finite(X, input_name="X")
    bytes_per_signal = len(components) * X.itemsize
    tops = [_largest_correlations(X[b], components, positive) for b in batch_slices(len(X), bytes_per_signal)]
    return np.maximum(np.concatenate(tops), 0)


def _largest_correlations(X, components, positive):
    correlations = X @ components.T
    correlations = correlations if positive else abs(correlations)
    return correlations.amax(1) if is_tensor(X) else correlations.max(axis=1)


def one_alpha_per_signal(alpha, n_signals):
    """`alpha` as float64, one a signal.

    Raises
    ------
    ValueError
        For other shapes and values that are not positive and finite.
    """
    alphas = np.asarray(alpha, dtype=np.float64)
    if alphas.shape not in ((), (n_signals,)):
        raise ValueError(f"alpha has shape {alphas.shape}; a number or one for each of {n_signals} signals is needed.")
    if not np.all((alphas > 0) & (alphas < np.inf)):
        raise ValueError(f"alpha must be positive and finite, got {alphas[~((alphas > 0) & (alphas < np.inf))][0]}.")
    return np.broadcast_to(alphas, (n_signals,))


def warn_of_unmet(n_unmet, n_signals, tol, max_iter):
    """Tell of signals whose gap is larger than asked for."""
    tell_of_shortfall(
        n_unmet,
        n_signals,
        f"did not reach a relative duality gap of tol={tol} within max_iter={max_iter}, or not in this precision. "
        "Raise max_iter or tol, or use float64.",
        stacklevel=4,
    )


def _checked(X, components):
    """Both arrays; whether X is finite the kernel finds out."""
    X = check_array(X, dtype=_DTYPES, order="C", ensure_all_finite=False, input_name="X")
    components = check_array(components, dtype=X.dtype, input_name="components")
    if components.shape[1] != X.shape[1]:
        raise ValueError(
            f"X has {X.shape[1]} features, but components has {components.shape[1]}: its rows must be atoms of "
            f"{X.shape[1]} features."
        )
    return X, components


def _pursue(X, components, alphas, positive, tol, max_iter, gram):
    """Codes (csr), gaps, and how many are not met."""
    from ._basis_pursuit_kernels import NOT_FINITE, UNMET, pursue_l1
    from ._omp_atoms import aligned_zeros, gram_of, padded_gram, padded_width
    from ._omp_codes import CodeRows, compressed_rows
    from ._threads import on_threads, threads_for

    n_atoms, n_features = components.shape
    columns = aligned_zeros((n_features, padded_width(n_atoms, X.dtype)), X.dtype)
    columns[:, :n_atoms] = components.T
    if gram is None:
        rows = gram_of(columns, n_atoms)
    else:
        gram = check_array(gram, dtype=X.dtype, input_name="gram")
        if gram.shape != (n_atoms, n_atoms):
            raise ValueError(
                f"gram has shape {gram.shape}; the inner products of {n_atoms} atoms have {(n_atoms, n_atoms)}."
            )
        rows = padded_gram(gram, np.ones(n_atoms, X.dtype))
    squares = np.maximum(rows.reshape(n_atoms, -1).diagonal(), 0)
    inverses = np.divide(1, squares, out=np.zeros(n_atoms, X.dtype), where=squares > 0)
    batches, gaps, n_unmet = [], np.zeros(len(X)), 0
    bytes_per_signal = n_atoms * (4 + X.itemsize)
    for batch in batch_slices(len(X), bytes_per_signal, batch_size=max(1, _BATCH_BYTES // bytes_per_signal)):
        n = batch.stop - batch.start
        work = n * columns.size
        block = max(1, min(_block(columns), -(-n // threads_for(n, work))))
        codes = CodeRows(n, n_atoms, X.dtype)
        tally = np.zeros((-(-n // block), 2), dtype=np.int64)
        on_threads(
            pursue_l1, X[batch], alphas[batch], columns, rows, inverses, positive, tol, max_iter,
            codes.indices, codes.values, codes.counts, gaps[batch], tally, block,
            n_pieces=len(tally), work=work,
        )  # fmt: skip
        if tally[:, NOT_FINITE].any():
            assert_all_finite(X, input_name="X")
            raise ValueError(f"Values of X are too large for squares in {X.dtype}: scale X down.")
        n_unmet += tally[:, UNMET].sum()
        batches.append(codes.packed())
    return compressed_rows(batches, n_atoms), gaps, n_unmet


def _block(columns):
    """Signals that a thread takes at a time: their correlations stay in its second-level cache."""
    return (1 << 19) // columns[0].nbytes
