"""The modules that `as_module` returns, and what every converted classifier offers inside them."""

from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain

import numpy as np
import torch
from sklearn.utils.metaestimators import available_if
from torch import nn

from skrobust.signals.arrays import label_indices
from skrobust.signals.tensors import to_numpy

from .inputs import takes_rows_only

# Modules that replace the front ends inside a running network, in another gradient mode than they were made with.
_stand_ins = ContextVar("stand_ins", default=None)


class ClassifierStep(nn.Module):
    """A converted classifier: scores, decision function, probabilities, predictions.

    A subclass defines `forward` or `decision_function`, and `predict_proba` or `predict_log_proba` where its
    estimator has them.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Labels, in the order of the scores.
    """

    def __init__(self, classes):
        super().__init__()
        self.classes_ = classes

    @property
    def n_classes(self):
        return len(self.classes_)

    def forward(self, X):
        """Class scores of shape (n_samples, n_classes)."""
        decision = self.decision_function(X)
        return two_columns(decision) if decision.ndim == 1 else decision

    def decision_function(self, X):
        """Decision function in scikit-learn's shape: (n_samples,) for two classes."""
        scores = self(X)
        return scores[:, 1] - scores[:, 0] if self.n_classes == 2 else scores

    def predict_log_proba(self, X):
        """Logarithm of `predict_proba`, finite."""
        return finite_log(self.predict_proba(X))

    def predict_indices(self, X):
        """Positions in ``classes_`` of the predictions, an ndarray."""
        # NumPy's argmax: of equal scores the first one wins, as in scikit-learn.
        return np.argmax(self(X).detach().cpu().numpy(), axis=1)


class ProbabilityStep(ClassifierStep):
    """A classifier without decision function of its own: its scores are log-probabilities."""

    def forward(self, X):
        return self.predict_log_proba(X)

    def predict_indices(self, X):
        return np.argmax(self.predict_proba(X).detach().cpu().numpy(), axis=1)


class ScoresStep(ClassifierStep):
    """A third-party module that maps X to class scores."""

    def __init__(self, module, classes):
        super().__init__(classes)
        self.module = module

    def forward(self, X):
        return self.module(X)

    @available_if(lambda self: hasattr(self.module, "predict_proba"))
    def predict_proba(self, X):
        return self.module.predict_proba(X)


def two_columns(decision):
    """Class scores (-d / 2, d / 2) of a binary decision function d."""
    half = decision / 2
    return torch.stack((-half, half), dim=1)


def finite_log(proba):
    """Logarithm in which probabilities that underflow count as the smallest normal number."""
    return proba.clamp_min(torch.finfo(proba.dtype).tiny).log()


def binary_proba(positive):
    """The two columns of a binary probability."""
    return torch.stack((1 - positive, positive), dim=1)


class EstimatorModule(nn.Module):
    """Base of the modules that users get: checks tensors and converts them to the module's dtype and device."""

    def __init__(self, step, estimator, like, convert=None):
        super().__init__()
        self.step = step
        self._convert = convert  # `as_module`, which made this module
        self._estimator = None if isinstance(estimator, nn.Module) else estimator
        self._name = type(estimator).__name__
        self._rows_only = takes_rows_only(estimator)
        self._n_features = getattr(estimator, "n_features_in_", None)
        # Follows module.to(...), so that input is always converted to the module's dtype and device.
        self.register_buffer("_like", like, persistent=False)

    def _read(self, X):
        if not isinstance(X, torch.Tensor):
            raise TypeError(
                f"The module of {self._name} takes tensors, got {type(X).__name__}. Convert it: torch.as_tensor(X)."
            )
        if X.ndim < 2:
            raise ValueError(
                f"Expected 2D array, got {X.ndim}D tensor instead. Reshape one sample with X.reshape(1, -1)."
            )
        if X.ndim > 2 and self._rows_only:
            raise ValueError(
                f"Found array with dim {X.ndim}, while dim <= 2 is required by {self._name}. Flatten the samples: "
                "X.flatten(1)."
            )
        if X.ndim == 2 and self._n_features is not None and X.shape[1] != self._n_features:
            raise ValueError(
                f"X has {X.shape[1]} features, but {self._name} is expecting {self._n_features} features as input."
            )
        return X.to(self._like)

    def forward(self, X):
        stand_in = (_stand_ins.get() or {}).get(self)
        return (self.step if stand_in is None else stand_in)(self._read(X))

    def with_gradient(self, gradient):
        """A module of the same estimator, dtype and device, whose front ends are differentiated as `gradient` says."""
        return self._convert(self._estimator, gradient=gradient, dtype=self._like.dtype, device=self._like.device)


class TransformerModule(EstimatorModule):
    """The module of a transformer: X to ``transform(X)``."""


class ClassifierModule(EstimatorModule):
    """The module of a classifier or of a Pipeline that ends in one.

    Its forward pass returns class scores of shape (n_samples, n_classes); their argmax is the prediction.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, in the order of the scores.
    """

    @property
    def classes_(self):
        return self.step.classes_

    def decision_function(self, X):
        """Decision function in scikit-learn's own shape.

        Where the estimator has none, it follows from the class scores: their difference for two classes, else the
        scores themselves.
        """
        return self.step.decision_function(self._read(X))

    @available_if(lambda self: hasattr(self.step, "predict_proba"))
    def predict_proba(self, X):
        """Class probabilities, a tensor of shape (n_samples, n_classes)."""
        return self.step.predict_proba(self._read(X))

    def predict(self, X):
        """Predicted labels, an ndarray of shape (n_samples,)."""
        with torch.no_grad():
            indices = self.step.predict_indices(self._read(X))
        return self.classes_[indices]

    def label_indices(self, y):
        """Positions in ``classes_`` of the labels `y`, an int64 tensor on the module's device."""
        labels = to_numpy(y)
        indices = label_indices(labels, self.classes_)
        unknown = sorted({repr(label) for label in labels[indices < 0].tolist()})
        if unknown:
            raise ValueError(f"y contains labels unknown to {self._name}: {', '.join(unknown[:5])}.")
        return torch.tensor(indices, device=self._like.device)


class NetworkModule(ClassifierModule):
    """A torch network as a classifier: shared with the user, not copied, never changed.

    The number of classes is known after the first forward pass.
    """

    def __init__(self, network, gradient="exact"):
        super().__init__(NetworkStep(network, gradient=gradient), network, torch.zeros(0))

    def _read(self, X):
        if isinstance(X, torch.Tensor):
            # The step converts X to the dtype of the network.
            dtype = X.dtype if X.is_floating_point() else torch.float64
            if (self._like.dtype, self._like.device) != (dtype, X.device):
                self._like = X.new_empty(0, dtype=dtype)
        return super()._read(X)


class NetworkStep(ClassifierStep):
    """A torch network whose outputs are class scores, shared with the user.

    It runs in eval mode, and its training flags are restored afterwards, so that a network can be attacked while it is
    being trained. Modules of `as_module` within it are differentiated as `gradient` says; with "exact" as they
    were made.
    """

    def __init__(self, network, n_classes=None, gradient="exact"):
        nn.Module.__init__(self)
        self.network = network
        self._gradient = gradient
        nested = [] if gradient == "exact" else [m for m in network.modules() if isinstance(m, EstimatorModule)]
        nested = [module for module in nested if not isinstance(module, NetworkModule)]
        # The modules inside the network, and those that replace them.
        self._nested = tuple(nested)
        self.stand_ins = nn.ModuleList([module.with_gradient(gradient).step for module in nested])
        self.training = False
        self._n_classes = n_classes

    @property
    def classes_(self):
        if self._n_classes is None:
            raise AttributeError("The classes of a torch network are known after its first forward pass.")
        return np.arange(self._n_classes)

    def train(self, mode=True):
        """Leave the user's network alone."""
        return self

    def forward(self, X):
        with self.running():
            return self.check_scores(self.network(self.cast(X)))

    @contextmanager
    def running(self):
        """The network in eval mode, its front ends differentiated as they should be."""
        token = _stand_ins.set(dict(zip(self._nested, self.stand_ins, strict=True)) or _stand_ins.get())
        try:
            with evaluating(self.network):
                yield
        finally:
            _stand_ins.reset(token)

    def cast(self, X):
        """X in the dtype and on the device of the network's first parameter or buffer."""
        floats = (t for t in chain(self.network.parameters(), self.network.buffers()) if t.is_floating_point())
        like = next(floats, X)
        return X.to(dtype=like.dtype, device=like.device)

    def check_scores(self, scores):
        """Check `scores`, set the number of classes to that of their columns, and return them."""
        if not isinstance(scores, torch.Tensor):
            keys = f" with the keys {list(scores)}" if isinstance(scores, dict) else ""
            raise TypeError(
                f"{type(self.network).__name__} returned a {type(scores).__name__}{keys}; a classifier returns one "
                "tensor of scores of shape (n_samples, n_classes). Wrap it in a module whose forward picks them, such "
                "as output[0] or output['logits']."
            )
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise ValueError(
                f"{type(self.network).__name__} returned shape {tuple(scores.shape)}; a classifier returns scores "
                "of shape (n_samples, n_classes) with at least two classes. Stack (-d / 2, d / 2) for a binary score d."
            )
        self._n_classes = scores.shape[1]
        return scores


@contextmanager
def evaluating(network):
    """Run `network` in eval mode and restore each of its modules' training flags."""
    training = [module for module in network.modules() if module.training]
    if training:
        network.eval()
    try:
        yield network
    finally:
        for module in training:
            module.training = True
