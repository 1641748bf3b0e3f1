"""Basis pursuit denoising (the lasso) of many signals over one dictionary."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import assert_all_finite
from sklearn.utils._param_validation import Interval, validate_params

from skrobust.pursuits.penalties import Penalty, resolve_penalty
from skrobust.pursuits.penalties.l1 import is_plain_l1
from skrobust.pursuits.result import warn_if_not_converged
from skrobust.signals import batch_slices, documented_like, is_tensor


@validate_params(
    {
        "X": "no_validation",
        "components": "no_validation",
        "alpha": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "penalty": [str, Penalty],
        "positive": ["boolean"],
        "tol": [Interval(Real, 0, 1, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "gram": "no_validation",
        "sparse_output": ["boolean"],
        "return_result": ["boolean"],
        "n_jobs": [Integral, None],
    },
    prefer_skip_nested_validation=True,
)
def basis_pursuit(
    X,
    components,
    *,
    alpha,
    penalty="l1",
    positive=False,
    tol=1e-4,
    max_iter=1000,
    gram=None,
    sparse_output=True,
    return_result=False,
    n_jobs=None,
):
    """Sparse codes by the lasso, to a certified accuracy.

    For each row x of `X` the code z minimises ::

        1/2 ||x - z D||_2^2 + alpha ||z||_1

    where the rows of D are the atoms ([1]_), or the same with another `penalty` g, ``alpha g(z)``. The l1 norm is
    solved on the CPU by coordinate descent on working sets in the Gram domain, with gap-safe screening ([2]_, [3]_);
    on other devices, and for other penalties, by proximal gradient with momentum and adaptive restart ([4]_).

    Parameters
    ----------
    X : array-like or torch.Tensor of shape (n_signals, n_features)
        Signals, float32 or float64 (anything else becomes float64).
    components : array-like or torch.Tensor of shape (n_atoms, n_features)
        Atoms. If norms differ, the penalty favours atoms of large norm.
    alpha : float or array-like of shape (n_signals,)
        Weight of the penalty, > 0; that of scikit-learn's ``Lasso`` times `n_features`. At `alpha_max` and above the
        code is zero.
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, default="l1"
        See `skrobust.pursuits.Penalty`, also for how to define one.
    positive : bool, default=False
        Whether codes are >= 0.
    tol : float, default=1e-4
        Relative duality gap at which a signal is done: ``gap <= tol * objective``, so that the objective certainly
        exceeds its minimum by no more than that. float32 attains about 1e-6. For a penalty that defines neither
        `dual_norm` nor `conjugate`: largest change of a coefficient by one step, relative to the largest coefficient.
    max_iter : int, default=1000
        Maximum number of sweeps over the working set of a signal (or of gradient steps).
    gram : array-like of shape (n_atoms, n_atoms), default=None
        ``components @ components.T``, if already computed. Computed otherwise: memory is quadratic in `n_atoms`.
        Proximal gradient does not use it.
    sparse_output : bool, default=True
        Whether codes are sparse. Dense codes take ``n_signals * n_atoms`` numbers.
    return_result : bool, default=False
        Whether to return a `Result`: codes, objectives, duality gaps, sweeps and whether `tol` was reached.
    n_jobs : int or None, default=None
        Number of threads; the result does not depend on it. None: as many as the environment allows. Ignored for
        tensors on other devices than the CPU.

    Returns
    -------
    codes : scipy.sparse.csr_array, ndarray or torch.Tensor of shape (n_signals, n_atoms)
        In the dtype of `X`. For tensors: a tensor on the device of `X`, in COO format if `sparse_output`. Its values
        are differentiable (once) with respect to `X` and `components`, for fixed supports and signs.
        This needs a penalty that defines `gradient`.
        With `return_result` a `Result` with these codes, and arrays of shape (n_signals,).

    Raises
    ------
    ValueError
        For NaN, infinity, empty input, mismatched shapes, and `alpha` that is not positive.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If signals did not reach `tol`.

    See Also
    --------
    alpha_max : The smallest `alpha` whose code is zero.
    orthogonal_mp : Greedy codes with a given number of atoms or residual norm.

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
    >>> from skrobust.pursuits import GroupL1, basis_pursuit
    >>> X = np.array([[3.0, -1.0, 0.2]])
    >>> basis_pursuit(X, np.eye(3), alpha=0.5).toarray()
    array([[ 2.5, -0.5,  0. ]])
    >>> basis_pursuit(X, np.eye(3), alpha=0.5, positive=True).toarray()
    array([[2.5, 0. , 0. ]])
    >>> basis_pursuit(X, np.eye(3), alpha=0.5, penalty=GroupL1([0, 0, 1], [1.0, 1.0])).toarray().round(3)
    array([[ 2.526, -0.842,  0.   ]])
    """
    penalty = resolve_penalty(penalty, positive=positive)
    settings = {"alpha": alpha, "tol": tol, "max_iter": max_iter, "sparse_output": sparse_output, "n_jobs": n_jobs}
    if not is_plain_l1(penalty) or (is_tensor(X) and X.device.type != "cpu"):
        from .any_penalty import basis_pursuit_by_fista

        result = basis_pursuit_by_fista(X, components, penalty=penalty, **settings)
    elif is_tensor(X):
        from .torch import basis_pursuit_of_tensors

        result = basis_pursuit_of_tensors(X, components, positive=penalty.positive, gram=gram, **settings)
    else:
        from .arrays import basis_pursuit_of_arrays

        result = basis_pursuit_of_arrays(X, components, positive=penalty.positive, gram=gram, **settings)
    warn_if_not_converged(result, tol, max_iter, stacklevel=4)
    return result if return_result else result.codes


@documented_like(basis_pursuit)
def alpha_max(X, components, *, penalty="l1", positive=False):
    """Smallest `alpha` at which `basis_pursuit` codes a signal by zero: for the l1 norm ``max_j |<x, d_j>|``.

    Parameters
    ----------
    positive : bool, default=False
        For codes >= 0: ``max_j <x, d_j>``, or 0 if all are negative.

    Returns
    -------
    ndarray or torch.Tensor of shape (n_signals,)

    Raises
    ------
    ValueError
        For NaN, infinity, empty input and mismatched shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import alpha_max
    >>> alpha_max(np.array([[3.0, -4.0]]), np.eye(2))
    array([4.])
    >>> alpha_max(np.array([[3.0, -4.0]]), np.eye(2), positive=True)
    array([3.])
    """
    penalty = resolve_penalty(penalty, positive=positive)
    if is_tensor(X):
        from skrobust.pursuits.greedy.omp.torch import checked_tensors

        X, components = checked_tensors(X, components, "basis_pursuit")
        return penalty.alpha_max(X @ components.T)
    from skrobust.pursuits.greedy.omp.arrays import checked_signals

    X, components = checked_signals(X, components)
    assert_all_finite(X, input_name="X")
    bytes_per_signal = len(components) * X.itemsize
    tops = [penalty.alpha_max(X[b] @ components.T) for b in batch_slices(len(X), bytes_per_signal)]
    return np.concatenate(tops)
