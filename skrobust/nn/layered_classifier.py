"""A layered pursuit with a linear head, and its training by back-propagation through all iterations."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from torch import nn

from skrobust.signals.fingerprint import fingerprint
from skrobust.signals.parameters import AT_LEAST_1, NON_NEGATIVE, POSITIVE

from .regularizers import incoherence_penalty, parseval_penalty

SEEDS = 2**31 - 1
SETTINGS_OF_PURSUIT = (
    "signal_shape",
    "pursuit",
    "positive",
    "max_iter",
    "momentum",
    "unit_norm",
    "batch_norm",
    "learn_steps",
    "padding",
    "stride",
    "skip",
)
"""Attributes of a `LayeredPursuit` that determine its results, besides parameters and buffers."""


class LayeredClassifier(nn.Module):
    """A layered pursuit with a linear head: class scores from the codes of the last layer.

    Parameters
    ----------
    pursuit : LayeredPursuit
    n_classes : int
    generator : torch.Generator or None, default=None
        For the initial weights of the head, uniform within ``1 / sqrt(n_features)``.

    Attributes
    ----------
    pursuit : LayeredPursuit
    head : torch.nn.Linear
    history : list of dict
        Mean loss (with penalties) and accuracy on the training batches of each epoch, if trained by `train_layered`.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skrobust.nn import LayeredClassifier, LayeredPursuit
    >>> atoms = np.random.default_rng(0).normal(size=(4, 3, 3, 1))
    >>> LayeredClassifier(LayeredPursuit([atoms], (8, 8, 1)), n_classes=3)(torch.zeros(5, 8, 8, 1)).shape
    torch.Size([5, 3])
    """

    def __init__(self, pursuit, n_classes, generator=None):
        super().__init__()
        self.pursuit = pursuit
        like = pursuit.atoms[0]
        n_features = math.prod(pursuit.code_shapes[-1])
        self.head = nn.Linear(n_features, n_classes, device="meta").to_empty(device=like.device).to(like.dtype)
        bound = 1 / math.sqrt(n_features)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
        self.history = []

    def forward(self, X):
        """Scores of shape (n_samples, n_classes) of X, a Tensor of shape ``(n_samples, *signal_shape)``."""
        return self.head(self.pursuit(X)[-1].flatten(1))


@validate_params(
    {
        "n_epochs": [AT_LEAST_1],
        "batch_size": [AT_LEAST_1],
        "learning_rate": [POSITIVE],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [NON_NEGATIVE],
        "schedule": [None, StrOptions({"cosine"}), AT_LEAST_1],
        "incoherence": [NON_NEGATIVE],
        "parseval": [NON_NEGATIVE],
    },
    prefer_skip_nested_validation=True,
)
def train_layered(
    pursuit,
    X,
    y,
    *,
    n_epochs=10,
    batch_size=64,
    learning_rate=0.005,
    momentum=0.9,
    weight_decay=0.0,
    schedule=None,
    incoherence=0.0,
    parseval=0.0,
    random_state=None,
    checkpoint=None,
    device=None,
    verbose=0,
):
    """Train a layered pursuit and a linear head on labels, by stochastic gradient descent with momentum.

    The gradient runs through all iterations of the pursuit. `pursuit` itself does not change.

    Parameters
    ----------
    pursuit : LayeredPursuit
        Starting point.
    X : array-like of shape ``(n_samples, *signal_shape)``
    y : array-like of int of shape (n_samples,)
        Labels 0, ..., n_classes - 1.
    n_epochs : int, default=10
    batch_size : int, default=64
    learning_rate : float, default=0.005
    momentum : float, default=0.9
    weight_decay : float, default=0.0
        For atoms, dense skip connections and weights of the head, not for thresholds, steps and offsets.
    schedule : None, "cosine" or int, default=None
        Learning rate: constant, cosine decay to zero, or divided by ten every `schedule` epochs.
    incoherence, parseval : float, default=0.0
        Weights of `incoherence_penalty` and `parseval_penalty`, summed over layers, in the loss.
    random_state : int, RandomState or None, default=None
        For the initial weights of the head and the order of samples.
    checkpoint : str, path-like or None, default=None
        A file written after each epoch. If it exists, training resumes from it and reaches the same result as without
        interruption. Unless `schedule` is "cosine", `n_epochs` may be larger than before.
    device : str, torch.device or None, default=None
        Where to train; None: where `pursuit` is.
    verbose : int, default=0
        1: a progress bar of the epochs.

    Returns
    -------
    LayeredClassifier
        In evaluation mode.

    Raises
    ------
    ValueError
        If data or settings are invalid, a checkpoint is unreadable or of another training, or the loss diverges.

    Notes
    -----
    Within ``torch.autocast("cpu", dtype=torch.bfloat16)`` products have half precision, which takes a third less time
    on processors that support it; parameters, codes and sums stay in float32.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skrobust.nn import LayeredPursuit, train_layered
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> X = rng.normal(scale=0.1, size=(200, 8, 1)) + np.where(y[:, None, None], [[1]] * 8, [[-1]] * 8)
    >>> pursuit = LayeredPursuit([rng.normal(size=(6, 4, 1))], (8, 1), pursuit="basis")
    >>> classifier = train_layered(pursuit, X, y, n_epochs=2, random_state=0)
    >>> with torch.no_grad():
    ...     predicted = classifier(torch.as_tensor(X, dtype=torch.float32)).argmax(1)
    >>> float((predicted.numpy() == y).mean())
    1.0
    """
    like = pursuit.atoms[0]
    dtype = np.float64 if like.dtype == torch.float64 else np.float32
    X, y = _checked_data(X, y, pursuit.signal_shape, dtype)
    settings = {
        "batch_size": int(batch_size),
        "learning_rate": float(learning_rate),
        "momentum": float(momentum),
        "weight_decay": float(weight_decay),
        "schedule": schedule if schedule in (None, "cosine") else int(schedule),
        "incoherence": float(incoherence),
        "parseval": float(parseval),
    }
    seed = check_random_state(random_state).randint(SEEDS)
    generator = torch.Generator().manual_seed(int(seed))
    classifier = LayeredClassifier(copy.deepcopy(pursuit), int(y.max()) + 1, generator)

    from .training import CrossEntropy, Recipe, TrainingCheckpoint, train_network  # imports skorch

    recipe = Recipe(
        learning_rate=float(learning_rate),
        momentum=float(momentum),
        weight_decay=float(weight_decay),
        schedule=settings["schedule"],
        batch_size=int(batch_size),
        max_epochs=int(n_epochs),
    )
    file = None
    if checkpoint is not None:
        identity = {
            **settings,
            "n_epochs": n_epochs if schedule == "cosine" else None,
            "random_state": None if random_state is None else int(seed),
            "pursuit": fingerprint(
                [*(repr(getattr(pursuit, name)) for name in SETTINGS_OF_PURSUIT), *pursuit.state_dict().values()]
            ),
            "X and y": fingerprint([X, y]),
        }
        file = TrainingCheckpoint(checkpoint, identity)
    device = like.device if device is None else device
    history, _ = train_network(
        classifier.to(device),
        X,
        y,
        objective=_WithPenalties(CrossEntropy(), incoherence, parseval),
        recipe=recipe,
        generator=generator,
        checkpoint=file,
        device=device,
        name="train_layered",
        verbose=verbose,
    )
    classifier.history[:] = history
    return classifier.eval()


@dataclass(frozen=True)
class _WithPenalties:
    """An objective plus the penalties on the atoms."""

    objective: Callable
    incoherence: float
    parseval: float

    def __call__(self, network, X, y, progress):
        loss, scores = self.objective(network, X, y, progress)
        pursuit = network.pursuit
        if self.incoherence:
            layers = zip(pursuit.atoms, pursuit.stride, pursuit.code_shapes, strict=True)
            incoherence = sum(incoherence_penalty(atoms, stride, shape[:-1]) for atoms, stride, shape in layers)
            loss = loss + self.incoherence * incoherence
        if self.parseval:
            loss = loss + self.parseval * sum(parseval_penalty(atoms) for atoms in pursuit.atoms)
        return loss, scores


def _checked_data(X, y, signal_shape, dtype):
    X, y = np.ascontiguousarray(X, dtype=dtype), np.asarray(y)
    if X.shape[1:] != signal_shape or not len(X):
        raise ValueError(f"X must have shape {('n_samples', *signal_shape)}, got {X.shape}.")
    if not np.isfinite(X).all():
        raise ValueError("X contains NaN or infinity; training needs finite values.")
    if y.shape != (len(X),) or y.dtype.kind not in "iu":
        raise ValueError(
            f"y must hold one integer label for each of the {len(X)} samples of X, got shape {y.shape} of {y.dtype}."
        )
    present = np.unique(y)
    if len(present) < 2 or present[0] != 0 or present[-1] != len(present) - 1:
        raise ValueError(
            f"y must hold the labels 0, ..., n_classes - 1 of two classes or more, each at least once, got {present}. "
            "Encode labels with sklearn.preprocessing.LabelEncoder."
        )
    return X, y.astype(np.int64)
