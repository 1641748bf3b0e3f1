"""`MOD`: the method of optimal directions."""

import warnings

import numpy as np
from scipy import linalg

from skrobust.signals.parameters import parametrized

from .columns import AtomColumns, residual_energies
from .descent import descend
from .learner import AlternatingLearner

_SWEEPS, _ATOM_TOL = 200, 1e-6
"""Maximum number of sweeps where the best atoms have no closed form, and relative change at which they stop."""


@parametrized
class MOD(AlternatingLearner):
    """Dictionary learning by the method of optimal directions.

    Minimises the objective of `KSVD`, alternately over the codes and, for fixed codes, over all atoms at once ([1]_)::

        D = (Z^T Z)^-1 Z^T X,    then atoms divided, and coefficients multiplied, by the norms of the atoms.

    With ``coding="l1"`` or ``positive_dict=True`` there is no such formula, and atoms are computed by block coordinate
    descent. For l1 codes their norms are fixed to 1, because smaller coefficients of larger atoms would lower the
    penalty.

    See Also
    --------
    KSVD : Updates atom by atom, together with the coefficients.

    References
    ----------
    .. [1] K. Engan, S. Aase and J. Husøy, "Method of optimal directions for frame design", ICASSP 1999.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import MOD
    >>> X = np.random.default_rng(0).standard_normal((200, 6))
    >>> learner = MOD(12, n_nonzero_coefs=2, random_state=0).fit(X)
    >>> learner.components_.shape
    (12, 6)
    >>> bool(learner.objective_[-1] < 0.75 * learner.objective_[0])
    True
    """

    def _improve(self, X, codes, components):
        gram, products = AtomColumns(codes).statistics(X)
        fixed_norm = self._penalty > 0
        if fixed_norm or self.positive_dict:
            components = descend(
                gram,
                products,
                components,
                unit_norm=fixed_norm,
                positive=self.positive_dict,
                max_sweeps=_SWEEPS,
                tol=_ATOM_TOL,
            )
        else:
            used = gram.diagonal() > 0
            components[used] = _least_squares(gram[np.ix_(used, used)], products[used])
        norms = np.linalg.norm(components, axis=1)
        nonzero_norms = np.where(norms > 0, norms, 1).astype(X.dtype)
        components /= nonzero_norms[:, None]
        codes.data *= nonzero_norms[codes.indices]
        # A zero atom is unused; any direction serves until it is replaced.
        components[norms == 0, 0] = 1
        return components, residual_energies(X, codes, components)


def _least_squares(gram, products):
    gram, products = gram.astype(np.float64), products.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error", linalg.LinAlgWarning)
        try:
            return linalg.solve(gram, products, assume_a="pos")
        except (linalg.LinAlgError, linalg.LinAlgWarning):
            return linalg.lstsq(gram, products, cond=1e-10)[0]
