"""`KSVD`: dictionary learning, atom by atom."""

from sklearn.utils._param_validation import StrOptions

from ._ksvd_updates import approximate_update, exact_update
from ._learner import AlternatingLearner

_UPDATES = {"approximate": approximate_update, "exact": exact_update}


class KSVD(AlternatingLearner):
    """Dictionary learning by K-SVD.

    Minimises over the atoms (the rows of D, of unit norm) and the codes z of the signals x ::

        mean of ||x - z D||^2 / 2                 subject to ||z||_0 <= K        (coding="omp", "ols")
        mean of ||x - z D||^2 / 2 + alpha ||z||_1                                (coding="l1")

    by turns: sparse codes of all signals over the atoms; then, atom after atom, the atom together with its
    coefficients, the support of the codes held fixed [1]_.

    Parameters
    ----------
    n_components : int or None, default=None
        Atoms. None: as many as `init` has, or as there are features.
    coding : {"omp", "ols", "l1"}, default="omp"
        Greedy codes by `orthogonal_mp` (with its two rules of selection), or those of least l1 norm by
        `basis_pursuit`.
    n_nonzero_coefs : int, float or None, default=None
        K of greedy codes: a count, or a fraction of the features in (0, 1]. None: a tenth of the features, at least
        one, or with `residual_tol` as many as it takes.
    residual_tol : float or None, default=None
        Norm of the residual at which a greedy code is long enough.
    alpha : float, default=0.1
        Weight of the l1 norm, for ``coding="l1"``.
    update : {"approximate", "exact"}, default="approximate"
        "exact": atom and coefficients are the best rank-one fit to what the other atoms leave, by a singular value
        decomposition. "approximate": one step of alternating minimisation towards it [2]_, many times faster
        and hardly worse.
    init : {"data", "dct", "random"} or array-like of shape (n_components, n_features), default="data"
        Atoms to begin with: signals drawn from X, the lowest frequencies of an overcomplete discrete cosine transform
        over the grid of the signal, random directions, or given ones.
    positive_code, positive_dict : bool, default=False
        Whether coefficients (with ``coding="l1"`` only) and atoms are >= 0.
    max_iter : int, default=50
        Most passes over the signals.
    tol : float, default=1e-4
        Stop when a pass changes the objective by no more than this share of it. 0: make all `max_iter` passes.
    warm_start : bool, default=False
        Go on from the atoms of the earlier `fit`; `objective_` and `n_iter_` then tell of all of them.
    sparse_output : bool, default=True
        Whether `transform` returns a sparse array.
    image_shape : tuple of int or None, default=None
        ``(height, width)`` or ``(height, width, n_channels)`` of patches that come as rows of a 2-D X; it matters for
        ``init="dct"`` and pictures.
    random_state : int, RandomState instance or None, default=None
        For `init`.
    n_jobs : int or None, default=None
        Threads. None: what the environment allows. The result does not depend on it.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The atoms, of unit norm.
    objective_ : ndarray of shape ``(n_iter_,)``
        What is minimised, after each pass, for the codes of that pass.
    n_iter_ : int
        Passes made.
    patch_size_ : tuple of int
        Grid of a signal, without channels.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only when X has feature names.

    See Also
    --------
    MOD : All atoms at once.
    OnlineDictionaryLearning : For many signals, or a stream of them.

    Notes
    -----
    An atom that serves next to no signal, or that is like another (correlation above 0.99), is replaced after the
    pass by the signal that is represented worst. Memory: one copy of X, and the codes in compressed form.

    References
    ----------
    .. [1] M. Aharon, M. Elad and A. Bruckstein, "K-SVD: an algorithm for designing overcomplete dictionaries for
       sparse representation", IEEE Trans. Signal Processing 54(11), 2006.
    .. [2] R. Rubinstein, M. Zibulevsky and M. Elad, "Efficient implementation of the K-SVD algorithm using batch
       orthogonal matching pursuit", Technion CS-2008-08, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import KSVD
    >>> rng = np.random.default_rng(0)
    >>> atoms = rng.standard_normal((8, 6))
    >>> X = np.repeat(atoms, 20, axis=0) * rng.uniform(1, 2, size=(160, 1))
    >>> learner = KSVD(8, n_nonzero_coefs=1, random_state=0).fit(X)
    >>> codes = learner.transform(X)
    >>> codes.shape, codes.nnz
    ((160, 8), 160)
    >>> bool(np.allclose(learner.inverse_transform(codes), X))
    True
    """

    _parameter_constraints = {
        **AlternatingLearner._parameter_constraints,
        "update": [StrOptions(set(_UPDATES))],
    }

    def __init__(
        self,
        n_components=None,
        *,
        coding="omp",
        n_nonzero_coefs=None,
        residual_tol=None,
        alpha=0.1,
        update="approximate",
        init="data",
        positive_code=False,
        positive_dict=False,
        max_iter=50,
        tol=1e-4,
        warm_start=False,
        sparse_output=True,
        image_shape=None,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        super().__init__(
            n_components,
            coding=coding,
            n_nonzero_coefs=n_nonzero_coefs,
            residual_tol=residual_tol,
            alpha=alpha,
            init=init,
            positive_code=positive_code,
            positive_dict=positive_dict,
            max_iter=max_iter,
            tol=tol,
            warm_start=warm_start,
            sparse_output=sparse_output,
            image_shape=image_shape,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.update = update

    def _improve(self, X, codes, components):
        energies = _UPDATES[self.update](
            X,
            codes,
            components,
            alpha=self._penalty,
            positive_code=self.positive_code,
            positive_dict=self.positive_dict,
        )
        return components, energies
