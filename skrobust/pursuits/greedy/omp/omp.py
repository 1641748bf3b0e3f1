"""Orthogonal matching pursuit of many signals over one dictionary."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skrobust.signals import documented_like, is_tensor, kernel_threads, scale_exponents, times_power

_GREEDY = {
    "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="right"), None],
    "tol": [Interval(Real, 0, None, closed="left"), "array-like", None],
    "selection": [StrOptions({"omp", "ols"})],
    "sparse_output": ["boolean"],
    "return_result": ["boolean"],
    "n_jobs": [Integral, None],
}


@validate_params(
    {"X": "no_validation", "components": "no_validation", "gram": "no_validation", "mask": "no_validation", **_GREEDY},
    prefer_skip_nested_validation=True,
)
def orthogonal_mp(
    X,
    components,
    *,
    n_nonzero_coefs=None,
    tol=None,
    selection="omp",
    gram=None,
    mask=None,
    sparse_output=True,
    return_result=False,
    n_jobs=None,
):
    """Sparse codes by orthogonal matching pursuit (OMP) or orthogonal least squares (OLS).

    For each row x of `X` a greedy solution of

        minimise ||x - z D||_2  subject to  ||z||_0 <= n_nonzero_coefs,  or stop once  ||x - z D||_2 <= tol

    where the rows of D are the atoms. After each selection the coefficients are those of least squares on the selected
    atoms ([1]_, [2]_; in the Gram domain [3]_). Atoms need not have unit norm: their scale changes the coefficients,
    not the selection.

    Parameters
    ----------
    X : array-like or torch.Tensor of shape (n_signals, n_features)
        Signals, float32 or float64 (anything else becomes float64).
    components : array-like or torch.Tensor of shape (n_atoms, n_features)
        Atoms. Zero atoms are never selected.
    n_nonzero_coefs : int, float or None, default=None
        Maximum number of atoms of a code: an int, or a fraction of `n_features` as a float in (0, 1]. None: no limit
        with `tol`; without, a tenth of `n_features`, at least one.
    tol : float or array-like of shape (n_signals,), default=None
        Norm of the residual at which the pursuit of a signal stops (not squared as in scikit-learn). Signals with a
        smaller norm get an empty code. With `n_nonzero_coefs`, the first criterion met counts.
    selection : {"omp", "ols"}, default="omp"
        The next atom is the one most correlated with the residual ("omp", as in scikit-learn), or the one that leaves
        the smallest residual ("ols", order-recursive, as in SPAMS). The first in `components` where several tie.
    gram : array-like of shape (n_atoms, n_atoms), default=None
        ``components @ components.T``, if already computed.
    mask : array-like of bool, of shape (n_signals, n_features) or (n_features,), default=None
        True where a sample is present. Signals and atoms are restricted to these samples; missing samples may be NaN.
    sparse_output : bool, default=True
        Whether codes are sparse. Dense codes take ``n_signals * n_atoms`` numbers.
    return_result : bool, default=False
        Whether to return a `Result`: codes, half the squared norms of the residuals, numbers of atoms, and with `tol`
        whether it was reached.
    n_jobs : int or None, default=None
        Number of threads; the result does not depend on it. None: as many as the environment allows. Ignored for
        tensors on other devices than the CPU.

    Returns
    -------
    codes : scipy.sparse.csr_array, ndarray or torch.Tensor of shape (n_signals, n_atoms)
        In the dtype of `X`. For tensors: a tensor on the device of `X`, in COO format if `sparse_output`. Its values
        are differentiable (once) with respect to `X` and `components`, for fixed selected atoms.
        With `return_result` a `Result` with these codes, and arrays of shape (n_signals,).

    Raises
    ------
    ValueError
        For NaN, infinity, empty input, mismatched shapes, and more coefficients than atoms or features.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If signals did not reach `tol` with the allowed number of atoms, or if the next atom depends linearly on the
        selected ones; the code before is returned then.

    See Also
    --------
    orthogonal_mp_gram : The same from inner products only.
    basis_pursuit : The convex relaxation.

    Notes
    -----
    A pursuit also stops when the residual is orthogonal to all atoms to within rounding: when no correlation exceeds
    16 rounding errors of the largest correlation with the signal.

    References
    ----------
    .. [1] Y. Pati, R. Rezaiifar and P. Krishnaprasad, "Orthogonal matching pursuit", Asilomar 1993.
    .. [2] S. Chen, S. Billings and W. Luo, "Orthogonal least squares methods and their application to non-linear
       system identification", Int. J. Control 50, 1989.
    .. [3] R. Rubinstein, M. Zibulevsky and M. Elad, "Efficient implementation of the K-SVD algorithm using batch
       orthogonal matching pursuit", Technion CS-2008-08, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import orthogonal_mp
    >>> components = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    >>> X = np.array([[2.0, 3.0, 0.0], [0.6, 0.0, 0.8]])
    >>> codes = orthogonal_mp(X, components, n_nonzero_coefs=2)
    >>> codes.toarray()
    array([[2., 3., 0.],
           [0., 0., 1.]])
    >>> orthogonal_mp(X, components, tol=2.5).toarray()
    array([[0., 3., 0.],
           [0., 0., 0.]])
    """
    settings = {
        "n_nonzero_coefs": n_nonzero_coefs,
        "tol": tol,
        "selection": selection,
        "sparse_output": sparse_output,
        "return_result": return_result,
    }
    if is_tensor(X):
        from .torch import orthogonal_mp_of_tensors

        return orthogonal_mp_of_tensors(X, components, gram=gram, mask=mask, n_jobs=n_jobs, **settings)
    from .arrays import orthogonal_mp_of_arrays

    return orthogonal_mp_of_arrays(X, components, gram=gram, mask=mask, n_jobs=n_jobs, **settings)


@documented_like(orthogonal_mp)
@validate_params(
    {"gram": "no_validation", "correlations": "no_validation", "squared_norms": ["array-like", None], **_GREEDY},
    prefer_skip_nested_validation=True,
)
def orthogonal_mp_gram(
    gram,
    correlations,
    *,
    n_nonzero_coefs=None,
    tol=None,
    squared_norms=None,
    selection="omp",
    sparse_output=True,
    return_result=False,
    n_jobs=None,
):
    """`orthogonal_mp` from the inner products of the atoms with each other and with the signals.

    Parameters
    ----------
    gram : array-like of shape (n_atoms, n_atoms)
        ``components @ components.T``.
    correlations : array-like of shape (n_signals, n_atoms)
        ``X @ components.T``, the transpose of scikit-learn's ``Xy``. Its dtype is that of the codes.
    n_nonzero_coefs : int, float or None, default=None
        As in `orthogonal_mp`; a fraction, and the tenth for None, refer to `n_atoms` here.
    tol : float or array-like of shape (n_signals,), default=None
        As in `orthogonal_mp`; needs `squared_norms`. Residuals below about 1e-7 (float64) or 1e-3 (float32) of the
        norm of a signal cannot be resolved from inner products.
    squared_norms : array-like of shape (n_signals,), default=None
        Squared norms of the signals; needed for `tol`, and for the objective of a `Result`.

    Returns
    -------
    codes : scipy.sparse.csr_array or ndarray of shape (n_signals, n_atoms)
        With `return_result` a `Result` with these codes; its objective is None without `squared_norms`.

    Raises
    ------
    ValueError
        As `orthogonal_mp`, and if `squared_norms` are missing where they are needed.

    See Also
    --------
    orthogonal_mp : From the signals and atoms themselves.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import orthogonal_mp_gram
    >>> components = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    >>> X = np.array([[2.0, 3.0, 0.0]])
    >>> orthogonal_mp_gram(components @ components.T, X @ components.T, n_nonzero_coefs=1).toarray()
    array([[0., 3., 0.]])
    """
    from .arrays import DTYPES, checked_gram
    from .atoms import padded_gram, padded_width
    from .batches import Pursuit, one_per_signal

    if squared_norms is None and tol is not None:
        raise ValueError("tol needs squared_norms, the squared norms of the signals; got None.")
    C = check_array(correlations, dtype=DTYPES, order="C", input_name="correlations")
    gram = checked_gram(gram, C.shape[1], C.dtype)
    norms = np.zeros(0) if squared_norms is None else one_per_signal(squared_norms, len(C), "squared_norms")

    def scaled(C, norms):
        exponents = scale_exponents(C)
        return exponents, (times_power(C, -exponents), times_power(norms, -2 * exponents) if len(norms) else norms)

    def refuse():
        raise ValueError("squared_norms has values that are not finite.")

    pursuit = Pursuit(
        len(C),
        *gram.shape,
        C.dtype,
        n_nonzero_coefs=n_nonzero_coefs,
        tol=tol,
        selection=selection,
        sparse_output=sparse_output,
        return_result=return_result,
    )
    diagonal = np.maximum(gram.diagonal(), 0)
    scales = np.divide(1, np.sqrt(diagonal), out=np.zeros_like(diagonal), where=diagonal > 0)
    with kernel_threads(n_jobs):
        shared = (padded_width(len(gram), C.dtype), padded_gram(gram, scales), scales)
        result = pursuit.run("pursue_correlations", (C, norms), shared, scaled, refuse)
    return result._replace(objective=None) if return_result and squared_norms is None else result
