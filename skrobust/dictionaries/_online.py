"""`OnlineDictionaryLearning`: from minibatches, for data sets of any size and streams."""

from dataclasses import dataclass, replace
from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from skrobust.signals import data_exponent, kernel_threads, times_power

from ._learner import DictionaryLearner, Progress
from ._online_steps import MinibatchSteps
from ._replacement import replace_idle_atoms

_INSPECTION = 8
"""Minibatches from one search for idle atoms to the next."""

_FIRST_FORGETTING, _RAMP = 5, 16
"""Most forgetting of the first minibatches, and how many more come for each unit of it: they are too few to lose."""


@dataclass
class Stream(Progress):
    """How far online learning has come.

    Attributes
    ----------
    gram, products : ndarray of shape (n_atoms, n_atoms) and (n_atoms, n_features)
        Sums over the past, as it is remembered, of z^T z and z^T x.
    uses : ndarray of shape (n_atoms,)
        How many signals of that past used each atom.
    n_steps : int
        Minibatches seen.
    seed : int
        Of the order in which passes take the signals.
    position : int
        Minibatches done of a pass that is not complete.
    cost : float
        Sum of the objective over their signals.
    """

    gram: np.ndarray = None
    products: np.ndarray = None
    uses: np.ndarray = None
    n_steps: int = 0
    seed: int = 0
    position: int = 0
    cost: float = 0.0

    @classmethod
    def begin(cls, components, seed, exponent):
        n_atoms, n_features = components.shape
        return cls(
            components,
            exponent=exponent,
            gram=np.zeros((n_atoms, n_atoms)),
            products=np.zeros((n_atoms, n_features)),
            uses=np.zeros(n_atoms),
            seed=seed,
        )

    def in_units(self, exponent):
        """The same in other units of the signals."""
        shift = 2 * (self.exponent - exponent)
        return replace(
            self,
            exponent=exponent,
            objective=list(times_power(np.array(self.objective), shift)),
            gram=times_power(self.gram, shift),
            products=times_power(self.products, shift),
            cost=times_power(float(self.cost), shift),
        )


def _memories(n_steps, forgetting):
    """Share of the sums that each minibatch keeps of the past, given how many came before."""
    return (n_steps / (n_steps + 1)) ** np.minimum(forgetting, _FIRST_FORGETTING + n_steps / _RAMP)


class OnlineDictionaryLearning(DictionaryLearner):
    """Dictionary learning from minibatches: for data sets of any size, and for streams.

    Minimises what `KSVD` does, by the recursion of Mairal et al. [1]_. The minibatch t is coded over the atoms as they
    are; what it says about them goes into two sums, and each atom takes its best value for these sums ::

        A <- beta_t A + sum z^T z,    B <- beta_t B + sum z^T x,    beta_t = (1 - 1/t)^min(forgetting, 5 + (t - 1)/16)
        for each atom j:    d_j = u_j / ||u_j||,    u_j = B_j - sum_{k != j} A_jk d_k

    so that neither signals nor codes of the past are kept.

    Parameters
    ----------
    n_components : int or None, default=None
        Atoms. None: as many as `init` has, or as there are features.
    coding : {"omp", "ols", "l1"}, default="omp"
        As in `KSVD`.
    n_nonzero_coefs : int, float or None, default=None
        K of greedy codes, as in `KSVD`.
    residual_tol : float or None, default=None
        Norm of the residual at which a greedy code is long enough.
    alpha : float, default=0.1
        Weight of the l1 norm, for ``coding="l1"``.
    batch_size : int, default=1024
        Signals coded between two updates of the atoms.
    forgetting : float, default=10.0
        How fast codes over earlier atoms lose weight: of t minibatches about the last ``t / (1 + forgetting)`` count.
        0: all count alike. Of the first 80 no more than five sixths are forgotten.
    init : {"data", "dct", "random"} or array-like of shape (n_components, n_features), default="data"
        As in `KSVD`.
    positive_code, positive_dict : bool, default=False
        Whether coefficients (with ``coding="l1"`` only) and atoms are >= 0.
    max_iter : int, default=10
        Most passes of `fit` over the signals, each in a new random order.
    tol : float, default=1e-3
        Stop when a pass changes the objective by no more than this share of it. 0: make all `max_iter` passes.
    warm_start : bool, default=False
        `fit` goes on from the earlier one, sums and all; after an interruption, from at most eight minibatches back.
    sparse_output : bool, default=True
        Whether `transform` returns a sparse array.
    image_shape : tuple of int or None, default=None
        As in `KSVD`.
    random_state : int, RandomState instance or None, default=None
        For `init` and the order of the signals.
    n_jobs : int or None, default=None
        Threads; the result does not depend on it.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The atoms, of unit norm.
    objective_ : ndarray of shape ``(n_iter_,)``
        Mean of what is minimised over the signals of each pass, or call of `partial_fit`, as they were met.
    n_iter_ : int
        Passes made, or calls of `partial_fit`.
    n_steps_ : int
        Minibatches seen.
    patch_size_ : tuple of int
        Grid of a signal, without channels.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only when X has feature names.

    See Also
    --------
    KSVD : Coefficients are updated with their atoms.
    sklearn.decomposition.MiniBatchDictionaryLearning : The same recursion with codes by LARS or coordinate descent.

    Notes
    -----
    Every eighth minibatch, atoms that serve next to no signal, or are like another, are replaced by the signals of
    the minibatch that are represented worst, and their sums forgotten. Mairal et al. let atoms be shorter than 1;
    here all have norm 1. The sums are float64 whatever X is, so that a long stream does not stall.

    Codes of ``coding="l1"`` are found to a tenth of `alpha` while atoms are learned: by coordinate descent that takes
    the coordinate that moves most, until none would move farther. `transform` gives certified ones.

    References
    ----------
    .. [1] J. Mairal, F. Bach, J. Ponce and G. Sapiro, "Online learning for matrix factorization and sparse coding",
       J. Machine Learning Research 11, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import OnlineDictionaryLearning
    >>> rng = np.random.default_rng(0)
    >>> atoms = rng.standard_normal((12, 6))
    >>> learner = OnlineDictionaryLearning(12, n_nonzero_coefs=1, batch_size=50, random_state=0)
    >>> for _ in range(20):
    ...     learner = learner.partial_fit(atoms[rng.integers(12, size=100)] + 0.01 * rng.standard_normal((100, 6)))
    >>> learner.n_steps_
    40
    >>> bool(learner.objective_[-1] < 0.1 * learner.objective_[0])
    True
    """

    _parameter_constraints = {
        **DictionaryLearner._parameter_constraints,
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "forgetting": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components=None,
        *,
        coding="omp",
        n_nonzero_coefs=None,
        residual_tol=None,
        alpha=0.1,
        batch_size=1024,
        forgetting=10.0,
        init="data",
        positive_code=False,
        positive_dict=False,
        max_iter=10,
        tol=1e-3,
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
        self.batch_size = batch_size
        self.forgetting = forgetting

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Learn from more signals, in their order.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_signals, n_features) or (n_signals, height, width[, n_channels])
            Taken in minibatches of `batch_size`. The first call also draws the first atoms from it.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        before = dict(vars(self))
        try:
            first = "components_" not in before
            X = self._read_rows(X, reset=first)
            earlier = None if first else before
            exponent = self._unit(X, earlier)
            learner, X = self._in_units(exponent), times_power(X, -exponent)
            stream = learner._start(X, earlier, exponent)
            with kernel_threads(self.n_jobs):
                stream.position, stream.cost = 0, 0.0
                learner._stream(X, np.arange(len(X)), stream)
            self._publish(stream)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        return self

    def _unit(self, X, earlier):
        if earlier is None:
            return data_exponent(X)
        # Neither the signals nor what is remembered of earlier ones may be much larger than the unit.
        stream = earlier["_progress"]
        sizes = np.sqrt(stream.gram.diagonal()).astype(X.dtype)
        remembered = stream.exponent + data_exponent(sizes[None])
        return max(data_exponent(X), remembered) if X.any() else remembered

    def _start(self, X, earlier, exponent):
        self._check_constraints()
        if earlier is not None:
            stream = earlier["_progress"].in_units(exponent)
            stream.components = stream.components.astype(X.dtype)
            return stream
        random_state = check_random_state(self.random_state)
        components = self._first_components(X, random_state)
        return Stream.begin(components, int(random_state.randint(np.iinfo(np.int32).max)), exponent)

    def _publish(self, progress):
        super()._publish(progress)
        self.n_steps_ = progress.n_steps
        self._progress = progress

    def _passes(self, X, stream):
        if stream.position * self.batch_size >= len(X):  # of a longer X
            stream.position, stream.cost = 0, 0.0
        for _ in range(self.max_iter):
            order = np.random.RandomState([stream.seed, len(stream.objective)]).permutation(len(X))
            objective = self._stream(X, order, stream)
            yield objective
            known = stream.objective
            if self.tol > 0 and len(known) > 1 and abs(known[-2] - objective) <= self.tol * known[-2]:
                break

    def _stream(self, X, order, stream):
        """One pass over the signals in the given order, or what is left of it."""
        steps = MinibatchSteps(
            X,
            len(stream.components),
            self.batch_size,
            coding=self.coding,
            n_nonzero_coefs=self.n_nonzero_coefs,
            residual_tol=self.residual_tol,
            alpha=self.alpha,
            positive_code=self.positive_code,
            positive_dict=self.positive_dict,
        )
        n_batches = -(-len(X) // self.batch_size)
        while stream.position < n_batches:
            count = min(n_batches - stream.position, _INSPECTION - stream.n_steps % _INSPECTION)
            first = stream.position * self.batch_size
            self._learn(steps, order[first : first + count * self.batch_size], count, stream)
        objective = stream.cost / len(X)
        stream.objective, stream.position, stream.cost = [*stream.objective, objective], 0, 0.0
        return objective

    def _learn(self, steps, order, count, stream):
        """From the next `count` minibatches; `stream` is changed only once they are done."""
        components, gram = stream.components.copy(), stream.gram.copy()
        products, uses = stream.products.copy(), stream.uses.copy()
        memories = _memories(np.arange(stream.n_steps, stream.n_steps + count), self.forgetting)
        cost = steps.learn(order, memories, components, gram, products, uses)
        n_steps = stream.n_steps + count
        if n_steps % _INSPECTION == 0:
            last = order[(count - 1) * self.batch_size :]
            energies = steps.energies[: len(last)]
            replaced = replace_idle_atoms(components, uses, energies, steps.X[last], self.positive_dict)
            gram[replaced], gram[:, replaced], products[replaced] = 0, 0, 0
            uses[replaced] = uses.mean()
        stream.components, stream.gram, stream.products, stream.uses = components, gram, products, uses
        stream.n_steps, stream.position, stream.cost = n_steps, stream.position + count, stream.cost + cost
