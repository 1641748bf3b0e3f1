"""`KSVD`: dictionary learning atom by atom."""

from skrobust.signals.parameters import parameter, parametrized

from .ksvd_updates import approximate_update, exact_update
from .learner import AlternatingLearner

_UPDATES = {"approximate": approximate_update, "exact": exact_update}


@parametrized
class KSVD(AlternatingLearner):
    """Dictionary learning by K-SVD.

    Minimises over the atoms (the rows of D, of unit norm) and the codes z of the signals x ::

        mean of ||x - z D||^2 / 2                 subject to ||z||_0 <= K        (coding="omp", "ols")
        mean of ||x - z D||^2 / 2 + alpha ||z||_1                                (coding="l1")

    alternately: sparse codes of all signals over the atoms; then each atom together with its coefficients, for fixed
    supports [1]_.

    Parameters
    ----------
    update : {"approximate", "exact"}, default="approximate"
        "exact": atom and coefficients are the best rank-one approximation of the residual of the other atoms, by a
        singular value decomposition. "approximate": one step of alternating minimisation towards it [2]_, many times
        faster and hardly worse.

    See Also
    --------
    MOD : All atoms at once.
    OnlineDictionaryLearning : For many signals, or a stream of them.

    Notes
    -----
    An atom that is used by almost no signal, or has a correlation above 0.99 with another, is replaced after the pass
    by the worst represented signal. Memory: one copy of X, and the codes in CSR.

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

    update: str = parameter("approximate", set(_UPDATES))

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
