"""Base class of the patch dictionaries: parameters, codes, and a `fit` that can be interrupted."""

import copy
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, _fit_context
from sklearn.utils import check_random_state
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
    warn_once_per_fit,
)
from skrobust.signals.parameters import AT_LEAST_1, FRACTION, NON_NEGATIVE, parameter, parametrized
from skrobust.signals.tensors import to_numpy

from .coding import GREEDY, encode, many_codings
from .columns import usage
from .initial import initial_components
from .replacement import replace_idle_atoms


@dataclass
class Progress:
    """State of a fit; changed only when a step is complete.

    Signals and all derived values are divided by powers of ``2**exponent``.
    """

    components: np.ndarray
    objective: list = field(default_factory=list)
    exponent: int = 0


@parametrized
class DictionaryLearner(ClassNamePrefixFeaturesOutMixin, SignalTransformer):
    """Base of the dictionary learners. A subclass has `_start` and `_steps`, or is an `AlternatingLearner`.

    Parameters
    ----------
    n_components : int or None, default=None
        Number of atoms. None: that of `init`, or the number of features.
    coding : {"omp", "ols", "l1"}, default="omp"
        Greedy codes by `orthogonal_mp` (with its two selection rules), or l1 codes by `basis_pursuit`.
    n_nonzero_coefs : int, float or None, default=None
        K of greedy codes: a count, or a fraction of the features in (0, 1]. None: a tenth of the features, at least
        one; with `residual_tol` no limit.
    residual_tol : float or None, default=None
        Norm of the residual at which a greedy pursuit stops.
    alpha : float, default=0.1
        Weight of the l1 norm, for ``coding="l1"``.
    init : {"data", "dct", "random"} or array-like of shape (n_components, n_features), default="data"
        Initial atoms: signals drawn from X, the lowest frequencies of an overcomplete discrete cosine transform
        over the grid of the signal, random directions, or given ones.
    positive_code, positive_dict : bool, default=False
        Whether coefficients (with ``coding="l1"`` only) and atoms are >= 0.
    max_iter : int, default=50
        Maximum number of passes over the signals.
    tol : float, default=1e-4
        Stop when a pass changes the objective by at most this relative amount. 0: make all `max_iter` passes.
    warm_start : bool, default=False
        Continue from the atoms of the previous `fit`; `objective_` and `n_iter_` then cover all passes.
    sparse_output : bool, default=True
        Whether `transform` returns a sparse array.
    image_shape : tuple of int or None, default=None
        ``(height, width)`` or ``(height, width, n_channels)`` of patches given as rows of a 2-D X; used for
        ``init="dct"`` and displays.
    random_state : int, RandomState instance or None, default=None
        For `init`.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The atoms, of unit norm.
    objective_ : ndarray of shape ``(n_iter_,)``
        Objective after each pass, with the codes of that pass.
    n_iter_ : int
        Number of passes.
    patch_size_ : tuple of int
        Grid of a signal, without channels.
    """

    n_components: int | None = parameter(None, AT_LEAST_1, positional=True)
    coding: str = parameter("omp", {*GREEDY, "l1"})
    n_nonzero_coefs: int | float | None = parameter(None, AT_LEAST_1, FRACTION)
    residual_tol: float | None = parameter(None, NON_NEGATIVE)
    alpha: float = parameter(0.1, NON_NEGATIVE)
    init: ArrayLike = parameter("data", {"data", "dct", "random"}, "array-like")
    positive_code: bool = parameter(False, "boolean")
    positive_dict: bool = parameter(False, "boolean")
    max_iter: int = parameter(50, AT_LEAST_1)
    tol: float = parameter(1e-4, NON_NEGATIVE)
    warm_start: bool = parameter(False, "boolean")
    sparse_output: bool = parameter(True, "boolean")
    random_state: int | np.random.RandomState | None = parameter(None, "random_state")
    verbose: int = parameter(0, "verbose")

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the atoms.

        An interrupted `fit` (KeyboardInterrupt) leaves the estimator as it was. With ``warm_start=True`` it keeps the
        atoms of the last complete step, and the next `fit` resumes from there.
        """
        before = dict(vars(self))
        progress = None
        try:
            X = self._read_rows(X, reset=True)
            previous = self._previous(before)
            exponent = self._unit(X, previous)
            learner, X = self._in_units(exponent), times_power(X, -exponent)
            progress = learner._start(X, previous, exponent)
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

    def _previous(self, before):
        """The attributes of a previous fit to continue from, or None."""
        if not self.warm_start or "components_" not in before:
            return None
        components = before["components_"]
        n_atoms = self.n_components if self.n_components is not None else len(components)
        if components.shape != (n_atoms, self.n_features_in_):
            raise ValueError(
                f"warm_start=True cannot continue from {components.shape[0]} atoms of {components.shape[1]} features "
                f"with n_components={self.n_components} and {self.n_features_in_} features. Set warm_start=False."
            )
        return before

    def _unit(self, X, previous):
        """Exponent of the power of two by which signals are divided."""
        return data_exponent(X)

    def _in_units(self, exponent):
        """This learner for signals divided by ``2**exponent``, with parameters scaled accordingly."""
        learner = copy.copy(self)
        learner.alpha = times_power(float(self.alpha), -exponent)
        if self.residual_tol is not None:
            learner.residual_tol = times_power(float(self.residual_tol), -exponent)
        return learner

    def _start(self, X, previous, exponent):
        """State of a fit that starts, or continues from the attributes of an `previous` one."""
        self._check_constraints()
        if previous is None:
            return Progress(self._first_components(X, check_random_state(self.random_state)), exponent=exponent)
        objective = times_power(previous["objective_"], -2 * exponent)
        return Progress(previous["components_"].astype(X.dtype), list(objective), exponent)

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
        """Weight of the l1 norm in the objective."""
        return 0.0 if self.coding in GREEDY else self.alpha

    def _objective(self, energies, codes):
        """Mean of ``||x - z D||**2 / 2 + alpha ||z||_1`` over the signals."""
        penalty = self._penalty
        l1_term = penalty * np.abs(codes.data).sum(dtype=np.float64) if penalty else 0.0
        return float((0.5 * energies.sum() + l1_term) / len(energies))

    def _read_rows(self, X, *, reset):
        values = self._read_signals(X, reset=reset).values
        values = values.detach().cpu().numpy() if reset and is_tensor(values) else values
        return values.reshape(len(values), -1)

    @warn_once_per_fit
    def transform(self, X):
        """Sparse codes of signals.

        Returns
        -------
        csr_array, ndarray or Tensor of shape (n_signals, n_components)
            Dense with ``sparse_output=False``. float32 for float32, else float64. For tensors a tensor on the same
            device, in COO format or dense, differentiable for fixed selected atoms.
        """
        rows = self._read_rows(X, reset=False)
        components = self.components_
        if is_tensor(rows):
            import torch

            codes = self._encode(rows, torch.as_tensor(components, dtype=rows.dtype, device=rows.device))
            return codes if self.sparse_output or not codes.is_sparse else codes.to_dense()
        codes = self._encode(rows, components.astype(rows.dtype, copy=False))
        return codes if self.sparse_output else codes.toarray()

    @warn_once_per_fit
    def atom_usage(self, X):
        """Number of signals of X that use each atom.

        Returns
        -------
        ndarray of int of shape (n_components,)
        """
        rows = self._read_rows(X, reset=False)
        rows = to_numpy(rows)
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
            objectives = progress.objective
            # With tol=0 learning goes on even if the objective no longer changes.
            ends = self.tol > 0 and bool(objectives) and abs(objectives[-1] - objective) <= self.tol * objectives[-1]
            if not ends and step + 1 < self.max_iter:
                replace_idle_atoms(components, usage(codes), energies, X, self.positive_dict)
            progress.components, progress.objective = components, [*objectives, objective]
            yield objective
            if ends:
                break


@register_module(DictionaryLearner)
def _as_module(estimator, conversion):
    from .torch import DictionaryModule

    return DictionaryModule(estimator, conversion)
