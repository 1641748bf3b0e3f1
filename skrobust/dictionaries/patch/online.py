"""`OnlineDictionaryLearning`: dictionary learning from minibatches, for data sets of any size and streams."""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import check_random_state

from skrobust.signals import data_exponent, kernel_threads, times_power
from skrobust.signals.parameters import AT_LEAST_1, NON_NEGATIVE, parameter, parametrized

from .learner import DictionaryLearner, Progress
from .online_steps import MinibatchSteps
from .replacement import replace_idle_atoms

_INSPECTION = 8
"""Minibatches between two searches for unused atoms."""

_FIRST_FORGETTING, _RAMP = 5, 16
"""Upper bound of the forgetting of the first minibatch, and minibatches after which the bound grows by 1."""


@dataclass
class Stream(Progress):
    """State of online learning.

    Attributes
    ----------
    gram, products : ndarray of shape (n_atoms, n_atoms) and (n_atoms, n_features)
        Weighted sums of z^T z and z^T x over past signals.
    uses : ndarray of shape (n_atoms,)
        Weighted number of past signals that used each atom.
    n_steps : int
        Number of minibatches seen.
    seed : int
        Seed of the order of the signals in each pass.
    position : int
        Number of minibatches processed in an incomplete pass.
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
        """The same state for signals in another unit."""
        shift = 2 * (self.exponent - exponent)
        return replace(
            self,
            exponent=exponent,
            objective=list(times_power(np.array(self.objective), shift)),
            gram=times_power(self.gram, shift),
            products=times_power(self.products, shift),
            cost=times_power(float(self.cost), shift),
        )


def _decays(n_steps, forgetting):
    """Weight of the past sums at each minibatch, given the number of previous minibatches."""
    return (n_steps / (n_steps + 1)) ** np.minimum(forgetting, _FIRST_FORGETTING + n_steps / _RAMP)


@parametrized
class OnlineDictionaryLearning(DictionaryLearner):
    """Dictionary learning from minibatches: for data sets of any size, and for streams.

    Minimises the objective of `KSVD` by the recursion of Mairal et al. [1]_. Minibatch t is coded over the current
    atoms, its statistics are added to two sums, and each atom takes its optimum for these sums ::

        A <- beta_t A + sum z^T z,    B <- beta_t B + sum z^T x,    beta_t = (1 - 1/t)^min(forgetting, 5 + (t - 1)/16)
        for each atom j:    d_j = u_j / ||u_j||,    u_j = B_j - sum_{k != j} A_jk d_k

    so that neither past signals nor past codes are stored.

    Parameters
    ----------
    batch_size : int, default=1024
        Signals coded between two updates of the atoms.
    forgetting : float, default=10.0
        Decay of codes over earlier atoms: of t minibatches about the last ``t / (1 + forgetting)`` have weight. 0: all
        have equal weight. Of the first 80 minibatches at most five sixths are forgotten.
    max_iter : int, default=10
        Maximum number of passes of `fit` over the signals, each in a new random order.
    tol : float, default=1e-3
        Stop when a pass changes the objective by at most this relative amount. 0: make all `max_iter` passes.
    warm_start : bool, default=False
        `fit` continues from the previous one, including its sums; after an interruption, from at most eight minibatches
        back.
    random_state : int, RandomState instance or None, default=None
        For `init` and the order of the signals.

    Attributes
    ----------
    objective_ : ndarray of shape ``(n_iter_,)``
        Mean objective over the signals of each pass, or call of `partial_fit`, each with the atoms at its time.
    n_iter_ : int
        Passes made, or calls of `partial_fit`.
    n_steps_ : int
        Number of minibatches seen.

    See Also
    --------
    KSVD : Coefficients are updated with their atoms.
    sklearn.decomposition.MiniBatchDictionaryLearning : The same recursion with codes by LARS or coordinate descent.

    Notes
    -----
    At every eighth minibatch, atoms that are almost unused or nearly equal to another are replaced by the worst
    represented signals of the minibatch, and their sums are reset. Mairal et al. allow norms below 1; here all atoms
    have norm 1. The sums are float64 for any X, so that long streams keep learning.

    During learning, codes of ``coding="l1"`` are computed by greedy coordinate descent, until no coefficient would
    change by more than a tenth of `alpha`. Codes of `transform` are certified by a duality gap.

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

    batch_size: int = parameter(1024, AT_LEAST_1)
    forgetting: float = parameter(10.0, NON_NEGATIVE)
    max_iter: int = parameter(10)
    tol: float = parameter(1e-3)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Learn from more signals, in their given order.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_signals, n_features) or (n_signals, height, width[, n_channels])
            Processed in minibatches of `batch_size`. The first call also draws the initial atoms from it.
        """
        before = dict(vars(self))
        try:
            first = "components_" not in before
            X = self._read_rows(X, reset=first)
            previous = None if first else before
            exponent = self._unit(X, previous)
            learner, X = self._in_units(exponent), times_power(X, -exponent)
            stream = learner._start(X, previous, exponent)
            with kernel_threads(self.n_jobs):
                stream.position, stream.cost = 0, 0.0
                learner._stream(X, np.arange(len(X)), stream)
            self._publish(stream)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        return self

    def _unit(self, X, previous):
        if previous is None:
            return data_exponent(X)
        # Neither the signals nor the past sums may be much larger than the unit.
        stream = previous["_progress"]
        sizes = np.sqrt(stream.gram.diagonal()).astype(X.dtype)
        sums_exponent = stream.exponent + data_exponent(sizes[None])
        return max(data_exponent(X), sums_exponent) if X.any() else sums_exponent

    def _start(self, X, previous, exponent):
        self._check_constraints()
        if previous is not None:
            stream = previous["_progress"].in_units(exponent)
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
        if stream.position * self.batch_size >= len(X):  # from a longer X
            stream.position, stream.cost = 0, 0.0
        for _ in range(self.max_iter):
            order = np.random.RandomState([stream.seed, len(stream.objective)]).permutation(len(X))
            objective = self._stream(X, order, stream)
            yield objective
            objectives = stream.objective
            if self.tol > 0 and len(objectives) > 1 and abs(objectives[-2] - objective) <= self.tol * objectives[-2]:
                break

    def _stream(self, X, order, stream):
        """One pass over the signals in the given order, or the remainder of an interrupted one."""
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
        """Learn from the next `count` minibatches; `stream` changes only when they are complete."""
        components, gram = stream.components.copy(), stream.gram.copy()
        products, uses = stream.products.copy(), stream.uses.copy()
        decays = _decays(np.arange(stream.n_steps, stream.n_steps + count), self.forgetting)
        cost = steps.learn(order, decays, components, gram, products, uses)
        n_steps = stream.n_steps + count
        if n_steps % _INSPECTION == 0:
            last = order[(count - 1) * self.batch_size :]
            energies = steps.energies[: len(last)]
            replaced = replace_idle_atoms(components, uses, energies, steps.X[last], self.positive_dict)
            gram[replaced], gram[:, replaced], products[replaced] = 0, 0, 0
            uses[replaced] = uses.mean()
        stream.components, stream.gram, stream.products, stream.uses = components, gram, products, uses
        stream.n_steps, stream.position, stream.cost = n_steps, stream.position + count, stream.cost + cost
