"""What all patch dictionaries share: parameters, codes, and a `fit` that survives interruption."""

import copy
from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from skrobust.bridge import register_module
from skrobust.signals import (
    SignalTransformer,
    data_exponent,
    is_tensor,
    kernel_threads,
    one_blas_thread,
    times_power,
    told_once_a_fit,
)

from ._coding import GREEDY, encode, many_codings
from ._columns import usage
from ._initial import initial_components
from ._replacement import replace_idle_atoms


@dataclass
class Progress:
    """How far a fit has come; changed only when a step is complete.

    Signals, and all that follows from them, are in units of ``2**exponent``.
    """

    components: np.ndarray
    objective: list = field(default_factory=list)
    exponent: int = 0


class DictionaryLearner(ClassNamePrefixFeaturesOutMixin, SignalTransformer):
    """Base of the dictionary learners. A subclass has `_start` and `_steps`, or is an `AlternatingLearner`."""

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "coding": [StrOptions({*GREEDY, "l1"})],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="right"), None],
        "residual_tol": [Interval(Real, 0, None, closed="left"), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "init": [StrOptions({"data", "dct", "random"}), "array-like"],
        "positive_code": ["boolean"],
        "positive_dict": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "sparse_output": ["boolean"],
        "image_shape": [None, tuple, list],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=None,
        *,
        coding="omp",
        n_nonzero_coefs=None,
        residual_tol=None,
        alpha=0.1,
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
        self.n_components = n_components
        self.coding = coding
        self.n_nonzero_coefs = n_nonzero_coefs
        self.residual_tol = residual_tol
        self.alpha = alpha
        self.init = init
        self.positive_code = positive_code
        self.positive_dict = positive_dict
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.sparse_output = sparse_output
        self.image_shape = image_shape
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the atoms.

        An interrupted `fit` (KeyboardInterrupt) leaves the estimator as it was; with ``warm_start=True`` it keeps
        the atoms of the last complete step, and the next `fit` goes on from there.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_signals, n_features) or (n_signals, height, width[, n_channels])
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter does not fit X, naming both.
        """
        before = dict(vars(self))
        progress = None
        try:
            X = self._read_rows(X, reset=True)
            earlier = self._earlier(before)
            exponent = self._unit(X, earlier)
            learner, X = self._in_units(exponent), times_power(X, -exponent)
            progress = learner._start(X, earlier, exponent)
            with (
                kernel_threads(self.n_jobs),
                one_blas_thread(),
                many_codings(),
                tqdm(desc=type(self).__name__, total=self.max_iter, unit="pass", disable=not self.verbose) as bar,
            ):
                for objective in learner._passes(X, progress):
                    bar.update()
                    bar.set_postfix_str(f"objective {times_power(objective, 2 * exponent):.6g}", refresh=False)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and self.warm_start and progress is not None:
                self._publish(progress)
            else:
                vars(self).clear()
                vars(self).update(before)
            raise
        self._publish(progress)
        return self

    def _earlier(self, before):
        """The attributes of an earlier fit to go on from, or None."""
        if not self.warm_start or "components_" not in before:
            return None
        components = before["components_"]
        wanted = self.n_components if self.n_components is not None else len(components)
        if components.shape != (wanted, self.n_features_in_):
            raise ValueError(
                f"warm_start=True cannot go on from {components.shape[0]} atoms of {components.shape[1]} features with "
                f"n_components={self.n_components} and {self.n_features_in_} features. Set warm_start=False."
            )
        return before

    def _unit(self, X, earlier):
        """Exponent of the power of two in units of which to learn."""
        return data_exponent(X)

    def _in_units(self, exponent):
        """This learner for signals in units of ``2**exponent``: what has the unit of a signal is scaled with them."""
        learner = copy.copy(self)
        learner.alpha = times_power(float(self.alpha), -exponent)
        if self.residual_tol is not None:
            learner.residual_tol = times_power(float(self.residual_tol), -exponent)
        return learner

    def _start(self, X, earlier, exponent):
        """Progress of a fit that begins, or goes on from the attributes of an `earlier` one."""
        self._check_constraints()
        if earlier is None:
            return Progress(self._first_components(X, check_random_state(self.random_state)), exponent=exponent)
        objective = times_power(earlier["objective_"], -2 * exponent)
        return Progress(earlier["components_"].astype(X.dtype), list(objective), exponent)

    def _check_constraints(self):
        if self.positive_code and self.coding in GREEDY:
            raise ValueError(
                f"positive_code=True needs coding='l1': coefficients of coding={self.coding!r} are those of least "
                "squares and may be negative."
            )

    def _first_components(self, X, random_state):
        return initial_components(self.init, self.n_components, X, self._layout, self.positive_dict, random_state)

    def _publish(self, progress):
        self.components_ = progress.components
        self.objective_ = times_power(np.array(progress.objective), 2 * progress.exponent)
        self.n_iter_ = len(progress.objective)
        self.patch_size_ = self._layout.grid

    def _encode(self, X, components):
        return encode(
            X,
            components,
            coding=self.coding,
            n_nonzero_coefs=self.n_nonzero_coefs,
            residual_tol=self.residual_tol,
            alpha=self.alpha,
            positive=self.positive_code,
            n_jobs=self.n_jobs,
        )

    @property
    def _penalty(self):
        """Weight of the l1 norm in what is minimised."""
        return 0.0 if self.coding in GREEDY else self.alpha

    def _objective(self, energies, codes):
        """Mean of ``||x - z D||**2 / 2 + alpha ||z||_1`` over the signals."""
        penalty = self._penalty
        size = penalty * np.abs(codes.data).sum(dtype=np.float64) if penalty else 0.0
        return float((0.5 * energies.sum() + size) / len(energies))

    def _read_rows(self, X, *, reset):
        values = self._read_signals(X, reset=reset).values
        values = values.detach().cpu().numpy() if reset and is_tensor(values) else values
        return values.reshape(len(values), -1)

    @told_once_a_fit
    def transform(self, X):
        """Sparse codes of signals.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_signals, n_features) or (n_signals, height, width[, n_channels])

        Returns
        -------
        csr_array, ndarray or Tensor of shape (n_signals, n_components)
            Dense with ``sparse_output=False``. float32 for float32, else float64. For tensors a tensor on the same
            device, sparse in coordinate format or dense, differentiable with the chosen atoms held fixed.
        """
        rows = self._read_rows(X, reset=False)
        components = self.components_
        if is_tensor(rows):
            import torch

            codes = self._encode(rows, torch.as_tensor(components, dtype=rows.dtype, device=rows.device))
            return codes if self.sparse_output or not codes.is_sparse else codes.to_dense()
        codes = self._encode(rows, components.astype(rows.dtype, copy=False))
        return codes if self.sparse_output else codes.toarray()

    @told_once_a_fit
    def atom_usage(self, X):
        """How many signals of X use each atom.

        Parameters
        ----------
        X : array-like of shape (n_signals, n_features) or (n_signals, height, width[, n_channels])

        Returns
        -------
        ndarray of int of shape (n_components,)
        """
        rows = self._read_rows(X, reset=False)
        rows = rows.detach().cpu().numpy() if is_tensor(rows) else rows
        return usage(self._encode(rows, self.components_.astype(rows.dtype, copy=False)))

    def inverse_transform(self, codes):
        """Signals of codes, ``codes @ components_``.

        Parameters
        ----------
        codes : array-like, sparse array or Tensor of shape (n_signals, n_components)

        Returns
        -------
        ndarray or Tensor
            Of the layout that `fit` saw.
        """
        check_is_fitted(self)
        components = self.components_
        if is_tensor(codes):
            import torch

            components = torch.as_tensor(components, dtype=codes.dtype, device=codes.device)
        elif not sparse.issparse(codes):
            codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(components):
            raise ValueError(f"codes must have shape (n_signals, {len(components)}), got {tuple(codes.shape)}.")
        if not is_tensor(codes) and codes.dtype in (np.float32, np.float64):
            components = components.astype(codes.dtype, copy=False)
        rows = codes @ components
        return rows.reshape(len(rows), *self._sample_shape)

    def _read_signals(self, X, *, reset):
        signals = super()._read_signals(X, reset=reset)
        if reset:
            self._sample_shape = signals.sample_shape
        return signals

    @property
    def _n_features_out(self):
        return len(self.components_)


class AlternatingLearner(DictionaryLearner):
    """Learners that code all signals, update all atoms, and so on. A subclass has `_improve`."""

    def _passes(self, X, progress):
        for step in range(self.max_iter):
            components = progress.components.copy()
            codes = self._encode(X, components)
            components, energies = self._improve(X, codes, components)
            objective = self._objective(energies, codes)
            known = progress.objective
            # Without a tolerance rounding must not end it, either.
            ends = self.tol > 0 and bool(known) and abs(known[-1] - objective) <= self.tol * known[-1]
            if not ends and step + 1 < self.max_iter:
                replace_idle_atoms(components, usage(codes), energies, X, self.positive_dict)
            progress.components, progress.objective = components, [*known, objective]
            yield objective
            if ends:
                break


@register_module(DictionaryLearner)
def _as_module(estimator, conversion):
    from ._learner_torch import DictionaryModule

    return DictionaryModule(estimator, conversion)
