"""Orthogonal matching pursuit of many signals over one dictionary."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skrobust.signals import is_tensor, kernel_threads, scale_exponents, times_power

_DTYPES = (np.float64, np.float32)

_GREEDY = {
    "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="right"), None],
    "tol": [Interval(Real, 0, None, closed="left"), "array-like", None],
    "selection": [StrOptions({"omp", "ols"})],
    "sparse_output": ["boolean"],
    "return_residual": ["boolean"],
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
    return_residual=False,
    n_jobs=None,
):
    """Sparse codes by orthogonal matching pursuit (OMP) or orthogonal least squares (OLS).

    For each row x of `X` a greedy solution of

        minimise ||x - z D||_2  subject to  ||z||_0 <= n_nonzero_coefs,  or stop once  ||x - z D||_2 <= tol

    where the rows of D are the atoms. After each selection the coefficients are those of least squares on the selected
    atoms ([1]_, [2]_; in the Gram domain [3]_). Atoms need not have unit norm: their scale changes the coefficients,
    not which atoms are selected.

    Parameters
    ----------
    X : array-like or torch.Tensor of shape (n_signals, n_features)
        Signals, float32 or float64 (anything else becomes float64).
    components : array-like or torch.Tensor of shape (n_atoms, n_features)
        Atoms. Zero atoms are never selected.
    n_nonzero_coefs : int, float or None, default=None
        Most atoms of a code: an int, or the fraction of `n_features` as a float in (0, 1]. None: with `tol` as many as
        it takes; without, a tenth of `n_features`, at least one.
    tol : float or array-like of shape (n_signals,), default=None
        Norm of the residual, not squared as in scikit-learn, at which the pursuit of a signal stops; signals within it
        get an empty code. With `n_nonzero_coefs`, whichever comes first.
    selection : {"omp", "ols"}, default="omp"
        The next atom is the one most correlated with the residual ("omp", as in scikit-learn), or the one that leaves
        the smallest residual ("ols", order-recursive, as in SPAMS). The first in `components` where several tie.
    gram : array-like of shape (n_atoms, n_atoms), default=None
        ``components @ components.T``, if at hand.
    mask : array-like of bool, of shape (n_signals, n_features) or (n_features,), default=None
        True where a sample is present. The pursuit then knows only these samples of a signal and of the atoms; missing
        samples may be NaN.
    sparse_output : bool, default=True
        Whether codes are sparse. Dense codes take ``n_signals * n_atoms`` numbers.
    return_residual : bool, default=False
        Whether to return the norms of the residuals as well.
    n_jobs : int or None, default=None
        Threads; the result does not depend on it. None: what the environment allows. Tensors off the CPU use none.

    Returns
    -------
    codes : scipy.sparse.csr_array, ndarray or torch.Tensor of shape (n_signals, n_atoms)
        In the dtype of `X`. Of tensors: a tensor on the device of `X`, sparse in coordinate format if `sparse_output`;
        its values are differentiable (once) with respect to `X` and `components`, the selected atoms held fixed.
    residual : ndarray or torch.Tensor of shape (n_signals,)
        Norms of the residuals; only if `return_residual`. Not differentiable.

    Raises
    ------
    ValueError
        For NaN, infinity, empty input, shapes that do not fit, and more coefficients than there are atoms or features.

    Warns
    -----
    RuntimeWarning
        If signals did not reach `tol` with all atoms that they may have, or if all atoms that could have improved a
        code depended linearly on its atoms; such codes are the last good ones.

    See Also
    --------
    orthogonal_mp_gram : The same from inner products alone.
    basis_pursuit : The convex relaxation.

    Notes
    -----
    The exact arithmetic stops a pursuit when the residual is orthogonal to all atoms; here, when no correlation with
    it exceeds 16 roundings of the largest correlation with the signal itself.

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
        "return_residual": return_residual,
    }
    if is_tensor(X):
        from ._omp_torch import orthogonal_mp_of_tensors

        return orthogonal_mp_of_tensors(X, components, gram=gram, mask=mask, n_jobs=n_jobs, **settings)
    from ._omp_atoms import UnitAtoms
    from ._omp_batches import Pursuit

    X, components, gram, mask = _checked(X, components, gram, mask)

    def refuse():
        assert_all_finite(X if mask is None else np.where(mask, X, 0), input_name="X")
        raise ValueError(f"Values of X are too large for inner products in {X.dtype}: scale X down.")

    exponents = scale_exponents(X if mask is None else np.where(mask, X, 0))
    pursuit = Pursuit(len(X), *components.shape, X.dtype, exponents=exponents, **settings)
    X = times_power(X, -exponents)
    with kernel_threads(n_jobs):
        atoms = UnitAtoms(components)
        if mask is not None:
            shared = (atoms.columns, np.square(atoms.columns), atoms.inverse_norms)
            return pursuit.run("pursue_masked", (X, mask), shared, refuse)
        uses_gram = gram is not None or atoms.affords_gram(len(X) * pursuit.most)
        products = atoms.gram(gram) if uses_gram else np.zeros(0, X.dtype)
        return pursuit.run("pursue_signals", (X,), (atoms.columns, products, atoms.inverse_norms), refuse)


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
    return_residual=False,
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
        As in `orthogonal_mp`; a fraction, and the tenth for None, are those of `n_atoms` here.
    tol : float or array-like of shape (n_signals,), default=None
        As in `orthogonal_mp`; needs `squared_norms`. Residuals below some 1e-7 (float64) or 1e-3 (float32) of the
        norm of a signal cannot be told from its inner products.
    squared_norms : array-like of shape (n_signals,), default=None
        Squared norms of the signals; needed for `tol` and `return_residual`.
    selection : {"omp", "ols"}, default="omp"
        As in `orthogonal_mp`.
    sparse_output : bool, default=True
        Whether codes are sparse.
    return_residual : bool, default=False
        Whether to return the norms of the residuals as well.
    n_jobs : int or None, default=None
        Threads; the result does not depend on it.

    Returns
    -------
    codes : scipy.sparse.csr_array or ndarray of shape (n_signals, n_atoms)
    residual : ndarray of shape (n_signals,)
        Norms of the residuals; only if `return_residual`.

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
    from ._omp_atoms import padded_gram, padded_width
    from ._omp_batches import Pursuit, one_per_signal

    if squared_norms is None and (tol is not None or return_residual):
        raise ValueError("tol and return_residual need squared_norms, the squared norms of the signals; got None.")
    C = check_array(correlations, dtype=_DTYPES, order="C", input_name="correlations")
    gram = _checked_gram(gram, C.shape[1], C.dtype)
    norms = np.zeros(0) if squared_norms is None else one_per_signal(squared_norms, len(C), "squared_norms")
    exponents = scale_exponents(C)
    C, norms = times_power(C, -exponents), norms if squared_norms is None else times_power(norms, -2 * exponents)

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
        return_residual=return_residual,
        exponents=exponents,
    )
    diagonal = np.maximum(gram.diagonal(), 0)
    scales = np.divide(1, np.sqrt(diagonal), out=np.zeros_like(diagonal), where=diagonal > 0)
    with kernel_threads(n_jobs):
        shared = (padded_width(len(gram), C.dtype), padded_gram(gram, scales), scales)
        return pursuit.run("pursue_correlations", (C, norms), shared, refuse)


def _checked(X, components, gram, mask):
    """The arrays of `orthogonal_mp`, but for whether X is finite, which the kernels find out."""
    X = check_array(X, dtype=_DTYPES, order="C", ensure_all_finite=False, input_name="X")
    components = check_array(components, dtype=X.dtype, input_name="components")
    if components.shape[1] != X.shape[1]:
        raise ValueError(
            f"X has {X.shape[1]} features, but components has {components.shape[1]}: its rows must be atoms of "
            f"{X.shape[1]} features."
        )
    if gram is not None:
        if mask is not None:
            raise ValueError("gram cannot be used with mask: with missing samples each signal has its own.")
        gram = _checked_gram(gram, len(components), X.dtype)
    if mask is None:
        return X, components, gram, None
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise ValueError(f"mask must be boolean, True where a sample is present; got dtype {mask.dtype}.")
    if mask.shape == X.shape:
        return X, components, gram, np.ascontiguousarray(mask)
    if mask.shape != X.shape[1:]:
        raise ValueError(
            f"mask has shape {mask.shape}; that of X, {X.shape}, or of one signal, {X.shape[1:]}, is needed."
        )
    if not mask.any():
        raise ValueError("mask hides all features.")
    return np.ascontiguousarray(X[:, mask]), components[:, mask], gram, None


def _checked_gram(gram, n_atoms, dtype):
    gram = check_array(gram, dtype=dtype, input_name="gram")
    if gram.shape != (n_atoms, n_atoms):
        raise ValueError(f"gram has shape {gram.shape}; the inner products of {n_atoms} atoms have {(n_atoms,) * 2}.")
    return gram
