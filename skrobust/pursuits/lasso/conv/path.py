"""Convolutional basis pursuit at several penalties, with warm starts."""

import numpy as np

from .pursuit import convolutional_basis_pursuit


def convolutional_path(X, operator, alphas, **parameters):
    """Sparse codes at several penalties, from the largest down, each warm-started from the previous codes.

    A generator: only the codes of one penalty are in memory.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    operator : ConvolutionalOperator
    alphas : array-like of shape (n_alphas,)
        Numbers > 0, in any order. Codes are zero from `convolutional_alpha_max` on.
    **parameters
        Parameters of `convolutional_basis_pursuit`: ``positive``, ``weights``, ``mask``, ``init`` (for the first),
        ``solver``, ``tol``, ``max_iter`` and ``n_jobs``.

    Returns
    -------
    iterator of (float, Result)
        Each alpha, the largest first, and its `Result`.

    Raises
    ------
    ValueError
        If `alphas` are not numbers > 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.operators import ConvolutionalOperator
    >>> from skrobust.pursuits import convolutional_alpha_max, convolutional_path
    >>> rng = np.random.default_rng(0)
    >>> operator = ConvolutionalOperator(rng.normal(size=(3, 4, 1)), (50, 1))
    >>> X = rng.normal(size=(2, 50, 1))
    >>> alphas = convolutional_alpha_max(X, operator).max() * np.geomspace(1, 0.1, 4)
    >>> path = convolutional_path(X, operator, alphas, tol=1e-6)
    >>> [int((result.codes != 0).sum()) for alpha, result in path]
    [0, 14, 51, 64]
    """
    values = np.asarray(alphas, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"alphas must be a list of numbers > 0, got {alphas!r}.")
    return _path(X, operator, np.sort(values)[::-1].tolist(), parameters)


def _path(X, operator, alphas, parameters):
    for alpha in alphas:
        result = convolutional_basis_pursuit(X, operator, alpha, **parameters)
        yield alpha, result
        parameters = {**parameters, "init": result.codes}
