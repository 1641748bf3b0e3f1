"""Base class of the layered coders: layers and their learning, codes in batches, and reconstruction."""

import math
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skrobust.bridge import register_module
from skrobust.operators import LayeredDictionary
from skrobust.pursuits.layered.cascade import penalties_per_layer
from skrobust.pursuits.layered.deep import layered_objective
from skrobust.pursuits.penalties import PENALTIES, Penalty
from skrobust.signals import (
    SignalTransformer,
    batch_slices,
    check_clip,
    is_tensor,
    restored_on_error,
    warn_once_per_fit,
)
from skrobust.signals.parameters import AT_LEAST_1, NON_NEGATIVE, POSITIVE, parameter, parametrized

from .learning import learn_layer_by_layer, learn_with_labels
from .plan import alphas_per_layer, given_operators, one_per_layer, plan_layers


@parametrized
class LayeredCoder(ClassNamePrefixFeaturesOutMixin, SignalTransformer):
    """Base of the layered coders. A subclass defines `_pursuit`, `_alpha_name` and `_pursue`.

    Parameters
    ----------
    n_components : int or sequence of int, default=(16, 32)
        Number of atoms per layer; its length sets the number of layers.
    kernel_size : int, None or sequence, default=5
        Kernel size of all layers, or one per layer: an int, a tuple of height and width, or None for atoms that cover
        the whole grid (a dense layer). Reduced if the signal of the layer is smaller.
    stride : int or sequence of int, default=1
        Positions between atoms: one value for all layers, or one per layer.
    padding : {"valid", "same", "full", "circular"}, default="valid"
        Positions of the atoms; see `skrobust.operators.ConvolutionalOperator`.
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, or list with one per layer, default="l1"
        Penalty of the codes; see `skrobust.pursuits.Penalty`. Only `DeepPursuit` accepts
        ``GroupL1(over="layers")``. Dictionaries are learned under the l1 norm; supervised learning needs "l1".
    positive : bool, default=True
        Whether codes are >= 0. If True, a penalty object must have ``positive=True`` itself.
    learning : {"unsupervised", "supervised"}, default="unsupervised"
        "unsupervised": layer by layer, each from the codes below it, by convolutional dictionary learning.
        "supervised": end to end, by back-propagation through the pursuit under a linear head; `fit` then needs y, and
        penalties are learned for each atom.
    dictionaries : list of array-like or None, default=None
        Fixed atoms of each layer, ``(n_components, *kernel_size, n_channels)``; nothing is learned then.
    output : {"code", "reconstruction"}, default="code"
        "reconstruction": `transform` returns images, as a front end does.
    clip : tuple of (float, float) or None, default=None
        Lowest and highest value of reconstructions. Codes and `inverse_transform` are not clipped.
    per_layer : bool, default=False
        Return the codes of all layers side by side, not only those of the last.
    n_epochs : int, default=5
        Passes over X in learning, for each layer ("unsupervised") or for all together ("supervised").
    batch_size : int or None, default=None
        Images per update of the atoms. None: all for "unsupervised", 64 for "supervised".
    training_params : dict or None, default=None
        For supervised learning: further arguments of `skrobust.nn.train_layered` (``learning_rate``, ``parseval``,
        ``incoherence``, ``checkpoint``, ...) and of `skrobust.nn.LayeredPursuit` (``unit_norm``, ``batch_norm``,
        ``learn_steps``).
    device : str, torch.device or None, default=None
        Torch device of `transform` and of supervised learning. None: compiled kernels on the CPU.
    random_state : int, RandomState instance or None, default=None
        For the initial atoms and the order of batches.
    verbose : int, default=0
        1: print a line per epoch.

    Attributes
    ----------
    components_ : list of ndarray, ``(n_components, *kernel_size, n_channels)`` each
        Atoms of each layer.
    layers_ : skrobust.operators.LayeredDictionary
        The atoms of all layers, with their connections, as one dictionary.
    code_shapes_ : list of tuple
        Shape of each layer's codes as maps, ``(*positions, n_components)``.
    objectives_ : list of list of float
        Mean objective of each layer and epoch; unsupervised learning only.
    history_ : list of dict
        Training history, one entry per epoch; supervised learning only.
    head_coef_, head_intercept_, head_classes_ : ndarray
        The linear head on the codes of the last layer, and its classes; supervised learning only.
    n_iter_ : int
        Epochs of learning.
    """

    _pursuit = None
    """Name of the pursuit in `skrobust.nn.LayeredPursuit`."""
    _alpha_name = "alpha"
    """Name of the parameter with the weights of the penalties, or the thresholds."""

    n_components: tuple | int = parameter((16, 32), AT_LEAST_1, "array-like", positional=True)
    kernel_size: object = parameter(5, AT_LEAST_1, "array-like", None)
    stride: int | tuple = parameter(1, AT_LEAST_1, "array-like")
    padding: str = parameter("valid", {"same", "full", "valid", "circular"})
    penalty: object = parameter("l1", set(PENALTIES), Penalty, list, tuple)
    positive: bool = parameter(True, "boolean")
    learning: str = parameter("unsupervised", {"unsupervised", "supervised"})
    dictionaries: list | None = parameter(None, "array-like")
    output: str = parameter("code", {"code", "reconstruction"})
    clip: tuple | None = parameter(None, tuple, list)
    per_layer: bool = parameter(False, "boolean")
    n_epochs: int = parameter(5, AT_LEAST_1)
    batch_size: int | None = parameter(None, AT_LEAST_1)
    training_params: dict | None = parameter(None, dict)
    device: object = parameter(None)  # torch's own types
    random_state: int | np.random.RandomState | None = parameter(None, "random_state")
    verbose: int = parameter(0, "verbose")

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the dictionaries, or use given ones. An interrupted `fit` leaves the estimator as it was.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or None, default=None
            Labels, for ``learning="supervised"`` only.

        Raises
        ------
        ValueError
            If parameters do not fit X or each other, or labels are missing.
        """
        with restored_on_error(self):
            self._learn(X, y)
        return self

    def _learn(self, X, y):
        signals = self._read_signals(X, reset=True)
        check_clip(self.clip)
        values = signals.values.detach().cpu().numpy() if is_tensor(signals.values) else signals.values
        shape, skip = values.shape[1:], getattr(self, "skip", None)
        for name in ("objectives_", "history_", "head_coef_", "head_intercept_", "head_classes_"):
            vars(self).pop(name, None)  # of an earlier fit
        steps = None
        if self.dictionaries is not None:
            operators = given_operators(self.dictionaries, shape, self.padding, self.stride)
            operators = [_in_dtype(operator, values.dtype) for operator in operators]
            alphas = alphas_per_layer(self._alpha_name, getattr(self, self._alpha_name), len(operators))
            layers = LayeredDictionary(operators, skip)
        else:
            plan = plan_layers(self.n_components, self.kernel_size, self.stride)
            alphas = alphas_per_layer(self._alpha_name, getattr(self, self._alpha_name), len(plan))
            one_per_layer("penalty", self.penalty, len(plan))
            random_state = check_random_state(self.random_state)
            if self.learning == "supervised":
                layers, alphas, steps = self._learn_with_labels(values, y, plan, alphas, random_state)
            else:
                layers = self._learn_from_images(values, plan, alphas, random_state)
        self._sample_shape = signals.sample_shape
        self.layers_, self._alphas, self._steps = layers, alphas, steps
        self._penalties()  # raises errors
        self.components_ = [operator.components for operator in layers.operators]
        self.code_shapes_ = layers.code_shapes
        self.n_iter_ = 0 if self.dictionaries is not None else self.n_epochs
        setattr(self, f"{self._alpha_name}s_", alphas)

    def _penalties(self):
        """A penalty for each layer, or one for all together."""
        alphas = [np.asarray(strength) for strength in self._alphas]
        is_joint = self._pursuit == "deep"
        return penalties_per_layer(self.penalty, self.positive, self.layers_, alphas, is_joint=is_joint)

    def _penalty_below(self, n_layers):
        """The penalty of the first layers, for the codes from which the next layer is learned."""
        if isinstance(self.penalty, (list, tuple)):
            return self.penalty[:n_layers]
        return "l1" if getattr(self.penalty, "over", None) == "layers" else self.penalty

    @warn_once_per_fit
    def _learn_from_images(self, values, plan, alphas, random_state):
        def pursue(X, layers):
            n_layers = layers.n_layers
            return self._pursue(X, layers, alphas[:n_layers], self._penalty_below(n_layers), None)

        def progress(layer, epoch, objective):
            if self.verbose:
                name = type(self).__name__
                print(f"[{name}] layer {layer + 1}, epoch {epoch + 1} of {self.n_epochs}: {objective:.6g}")

        operators, self.objectives_ = learn_layer_by_layer(
            values,
            plan,
            alphas,
            pursue,
            padding=self.padding,
            skip=getattr(self, "skip", None),
            positive=self.positive,
            n_epochs=self.n_epochs,
            batch_size=self.batch_size,
            random_state=random_state,
            n_jobs=self.n_jobs,
            progress=progress,
        )
        return LayeredDictionary(operators, getattr(self, "skip", None))

    def _learn_with_labels(self, values, y, plan, alphas, random_state):
        if self.penalty != "l1":
            raise ValueError(
                f"learning='supervised' needs penalty='l1', got {self.penalty!r}; use learning='unsupervised'."
            )
        if y is None:
            raise ValueError("learning='supervised' needs labels y; use learning='unsupervised' without them.")
        classes, labels = np.unique(np.asarray(y), return_inverse=True)
        if len(labels) != len(values):
            raise ValueError(f"y has {len(labels)} labels for the {len(values)} samples of X.")
        trained = learn_with_labels(
            values,
            labels,
            plan,
            alphas,
            padding=self.padding,
            skip=getattr(self, "skip", None),
            positive=self.positive,
            pursuit=self._pursuit,
            max_iter=getattr(self, "max_iter", 0),
            momentum=getattr(self, "momentum", True),
            n_epochs=self.n_epochs,
            batch_size=self.batch_size,
            random_state=random_state,
            device=self.device,
            verbose=self.verbose,
            training_params=self.training_params,
        )
        layers, alphas, steps = trained.pursuit.as_arrays(values.dtype)
        self.history_ = trained.history
        self.head_classes_ = classes
        self.head_coef_ = trained.head.weight.detach().numpy().astype(values.dtype)
        self.head_intercept_ = trained.head.bias.detach().numpy().astype(values.dtype)
        return layers, alphas, steps

    @warn_once_per_fit
    def encode(self, X):
        """Codes of all layers as maps.

        Returns
        -------
        list of ndarray or Tensor, ``(n_samples, *code_shape)`` each
        """
        values = self._read_signals(X, reset=False).values
        if is_tensor(values):
            return self._tensor_module().codes(values)
        codes = [np.empty((len(values), *shape), dtype=values.dtype) for shape in self.code_shapes_]
        for batch, layer_codes in self._coded(values):
            for all_codes, part in zip(codes, layer_codes, strict=True):
                all_codes[batch] = part
        return codes

    @warn_once_per_fit
    def transform(self, X):
        """Codes of images, or their reconstructions.

        Returns
        -------
        ndarray or Tensor
            ``output="code"``: shape (n_samples, n_codes), of the last layer, or of all side by side for
            ``per_layer=True``. ``output="reconstruction"``: the shape of X. float32 for float32, else float64. Tensors
            stay on their device and are differentiable.
        """
        signals = self._read_signals(X, reset=False)
        values = signals.values
        if is_tensor(values):
            result = self._tensor_module().outputs(values)
            return signals.restore(result) if self.output == "reconstruction" else result
        if self.output == "reconstruction":
            result = np.empty_like(values)
            for batch, codes in self._coded(values):
                result[batch] = self.layers_.reconstruct(codes, n_jobs=self.n_jobs)
            return signals.restore(result if self.clip is None else result.clip(*self.clip))
        result = np.empty((len(values), self._n_features_out), dtype=values.dtype)
        for batch, codes in self._coded(values):
            parts = codes if self.per_layer else codes[-1:]
            result[batch] = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
        return result

    def inverse_transform(self, codes):
        """Images of codes, from the last layer down.

        Without skip connections that is ``B_1 B_2 ... B_l w_l``.

        Parameters
        ----------
        codes : ndarray or Tensor of shape (n_samples, n_codes)
            As `transform` returns them.

        Returns
        -------
        ndarray or Tensor of shape (n_samples, n_features), or of images where `fit` saw images

        Raises
        ------
        ValueError
            If codes have another shape, or skip connections need those of all layers: use ``per_layer=True``.
        """
        check_is_fitted(self)
        codes = codes if is_tensor(codes) else np.asarray(codes)
        sizes = [math.prod(shape) for shape in self.code_shapes_]
        expected = sum(sizes) if self.per_layer else sizes[-1]
        if codes.ndim != 2 or codes.shape[1] != expected:
            raise ValueError(f"codes must have shape (n_samples, {expected}), got {tuple(codes.shape)}.")
        if not self.layers_.is_chain and not self.per_layer:
            raise ValueError("With skip connections, codes of all layers are needed: set per_layer=True.")
        if not is_tensor(codes) and codes.dtype not in (np.float32, np.float64):
            codes = codes.astype(np.float64)
        if self.per_layer:
            ends = np.cumsum(sizes)
            maps = [
                codes[:, end - size : end].reshape(-1, *shape)
                for end, size, shape in zip(ends, sizes, self.code_shapes_, strict=True)
            ]
        else:
            maps = codes.reshape(-1, *self.code_shapes_[-1])
        images = self.layers_.reconstruct(maps, n_jobs=self.n_jobs)
        return images.reshape(len(images), *self._sample_shape)

    @warn_once_per_fit
    def score(self, X, y=None):
        """Negative mean objective of the structured problem at the codes of X; higher is better.

        ``1/2 sum_j ||t_j - B_j w_j||^2 + sum_j alpha_j g_j(w_j)``, the same for all layered coders.

        Returns
        -------
        float
        """
        signals = self._read_signals(X, reset=False)
        values = signals.values.detach().cpu().numpy() if is_tensor(signals.values) else signals.values
        penalties, total = self._penalties(), 0.0
        for batch, codes in self._coded(values):
            layer_residuals = self.layers_.residuals(values[batch], codes, n_jobs=self.n_jobs)
            total += float(layered_objective(layer_residuals, codes, self._alphas, penalties).sum())
        return -total / len(values)

    def get_feature_names_out(self, input_features=None):
        """Names such as ``layer3_atom5_y0_x2``, or those of the input for ``output="reconstruction"``."""
        check_is_fitted(self)
        if self.output == "reconstruction":
            return OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        names, n_layers = [], len(self.code_shapes_)
        for j in range(0 if self.per_layer else n_layers - 1, n_layers):
            *grid, n_atoms = self.code_shapes_[j]
            axes = ["x"] if len(grid) == 1 else ["y", "x"]
            for position in np.ndindex(*grid):
                place = "".join(f"_{axis}{at}" for axis, at in zip(axes, position, strict=True))
                names += [f"layer{j + 1}_atom{k}{place}" for k in range(n_atoms)]
        return np.array(names, dtype=object)

    @property
    def _n_features_out(self):
        if self.output == "reconstruction":
            return self.n_features_in_
        sizes = [math.prod(shape) for shape in self.code_shapes_]
        return sum(sizes) if self.per_layer else sizes[-1]

    def _coded(self, values):
        """Batches of signals and the codes of their layers, within the working memory."""
        bytes_per_sample = 8 * values.itemsize * sum(math.prod(shape) for shape in self.code_shapes_)
        for batch in batch_slices(len(values), bytes_per_sample):
            part = values[batch]
            if self.device is None:
                yield batch, self._pursue(part, self.layers_, self._alphas, self.penalty, self._steps)
                continue
            import torch

            with torch.no_grad():
                tensors = torch.as_tensor(part, device=self.device)
                codes = self._pursue(tensors, self.layers_, self._alphas, self.penalty, self._steps)
            yield batch, [w.cpu().numpy() for w in codes]

    def _tensor_module(self):
        from .torch import LayeredCoderModule

        return LayeredCoderModule(self, "exact")

    def _pursue(self, values, layers, alphas, penalty, steps):
        """Codes of all layers of signals on their grid, arrays or tensors."""
        raise NotImplementedError


def _in_dtype(operator, dtype):
    return operator.with_components(operator.components.astype(dtype, copy=False))


@parametrized
class IterativeLayeredCoder(LayeredCoder):
    """Base of the layered coders that iterate; see `LayeredCoder`.

    Parameters
    ----------
    alpha : float or sequence of float, default=0.1
        Penalties, >= 0: one for all layers, or one per layer. > 0 with `tol`.
    skip : {None, "residual", "dense"}, default=None
        Skip connections, which add earlier codes to the input of a layer; see `skrobust.operators.LayeredDictionary`.
    momentum : bool, default=True
        Accelerated steps; False: those of the papers.

    Attributes
    ----------
    alphas_ : list
        Penalties of the layers: numbers, or after supervised learning one per atom.
    """

    alpha: ArrayLike = parameter(0.1, NON_NEGATIVE, "array-like")
    skip: str | None = parameter(None, {"residual", "dense"})
    max_iter: int = parameter(20, Interval(Integral, 0, None, closed="left"))
    tol: float | None = parameter(None, POSITIVE)
    momentum: bool = parameter(True, "boolean")


@register_module(LayeredCoder)
def _as_module(estimator, conversion):
    from .torch import LayeredCoderModule

    return LayeredCoderModule(estimator, conversion.gradient)
