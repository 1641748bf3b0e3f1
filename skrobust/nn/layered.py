"""`LayeredPursuit`: a layered pursuit whose atoms, thresholds, steps and skip connections are learned."""

import sys

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from skrobust.operators import ConvolutionalOperator, LayeredDictionary
from skrobust.operators.base import safe_step
from skrobust.pursuits import deep_pursuit, layered_basis_pursuit, layered_thresholding, multilayer_pursuit

from .constraints import Between, Constrainable, ParameterList, UnitNorm
from .norms import update_squared_norm

PURSUITS = ("thresholding", "basis", "deep", "projection")
SMALLEST_BETA = 0.1
"""Smallest beta: learned steps are at most ten times the safe ones."""
FINAL_POWER_ITERATIONS = 200
"""Power iterations for the norms of the dictionaries after training."""
NORM_EPS, NORM_MEMORY = 1e-5, 0.1
"""Constant added to variances by batch normalisation, and weight of a new batch in the running statistics."""


class LayeredPursuit(Constrainable, nn.Module):
    """Codes of all layers of a signal, differentiable in atoms, thresholds, steps and skip connections.

    Parameters
    ----------
    components : list of array-like, ``(n_components, *kernel_size, n_channels)`` each
        Initial atoms, one array per layer.
    signal_shape : tuple of int
        ``(*grid, n_channels)``.
    pursuit : {"thresholding", "basis", "deep", "projection"}, default="thresholding"
        `skrobust.pursuits.layered_thresholding`, `layered_basis_pursuit`, `deep_pursuit` or `multilayer_pursuit`.
    alpha : float or sequence, default=0.1
        Initial thresholds or penalties: one for all layers or one per layer, each a number or of shape
        (n_components,). Learned for each atom.
    padding : str or sequence of str, default="valid"
    stride : int or sequence, default=1
        One for all layers, or one per layer.
    skip : {None, "residual", "dense"}, default=None
        Residual connections are fixed; the matrices of dense connections are learned, starting from the identity.
    positive : bool, default=True
        Codes >= 0.
    max_iter : int, default=5
        Iterations; 0 is the forward pass of a convolutional network.
    momentum : bool, default=True
    learn_steps : bool, default=False
        Learn beta, between 0.1 and 1, in the step size ``1 / (beta L)``; else beta is 1. Not for "projection".
    unit_norm : bool, default=False
        Atoms of norm 1: the stored ones are divided by their norms.
    batch_norm : bool, default=False
        Normalise correlations by the statistics of the feed-forward pass, in all iterations. Scale and offset are
        folded into atoms and thresholds, which may then be negative.

    Attributes
    ----------
    atoms : list of Tensor of the shapes of `components`
    thresholds : list of Tensor of shape (n_components,)
        >= 0.
    betas : Tensor of shape (n_layers,)
        With `learn_steps`.

    Notes
    -----
    Bounds of parameters (norms of atoms, thresholds, betas) are parametrizations of `torch.nn.utils.parametrize`: they
    hold after any step of any optimiser.

    In training mode each forward pass updates L, the squared norm of a layer's dictionary, by one power iteration;
    `settle` computes the final value.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skrobust.nn import LayeredPursuit
    >>> rng = np.random.default_rng(0)
    >>> atoms = [rng.normal(size=(4, 3, 3, 1)), rng.normal(size=(8, 2, 2, 4))]
    >>> module = LayeredPursuit(atoms, (8, 8, 1), pursuit="basis", stride=(1, 2))
    >>> [tuple(codes.shape) for codes in module(torch.zeros(5, 8, 8, 1))]
    [(5, 6, 6, 4), (5, 3, 3, 8)]
    """

    def __init__(
        self,
        components,
        signal_shape,
        *,
        pursuit="thresholding",
        alpha=0.1,
        padding="valid",
        stride=1,
        skip=None,
        positive=True,
        max_iter=5,
        momentum=True,
        learn_steps=False,
        unit_norm=False,
        batch_norm=False,
    ):
        super().__init__()
        if pursuit not in PURSUITS:
            raise ValueError(f"pursuit must be one of {', '.join(map(repr, PURSUITS))}, got {pursuit!r}.")
        if batch_norm and not positive:
            raise ValueError("batch_norm=True may make thresholds negative, which needs positive=True.")
        components = [torch.as_tensor(np.asarray(atoms), dtype=torch.float32) for atoms in components]
        n_layers = len(components)
        self.signal_shape = tuple(signal_shape)
        self.pursuit, self.positive, self.max_iter, self.momentum = pursuit, positive, max_iter, momentum
        self.unit_norm, self.batch_norm = unit_norm, batch_norm
        self.padding = [padding] * n_layers if isinstance(padding, str) else list(padding)
        self.stride = [stride] * n_layers if isinstance(stride, int) else list(stride)
        alphas = list(alpha) if np.ndim(alpha) or isinstance(alpha, (list, tuple)) else [alpha] * n_layers
        for name, values in (("padding", self.padding), ("stride", self.stride), ("alpha", alphas)):
            if len(values) != n_layers:
                raise ValueError(f"{name} has {len(values)} entries for {n_layers} layers.")
        normalise = UnitNorm() if unit_norm else torch.clone
        self.atoms = ParameterList(
            [nn.Parameter(normalise(atoms)) for atoms in components], UnitNorm if unit_norm else None
        )
        self.thresholds = ParameterList(
            [
                nn.Parameter((torch.as_tensor(a, dtype=torch.float32) * torch.ones(len(atoms))).clamp(min=0))
                for a, atoms in zip(alphas, components, strict=True)
            ],
            lambda: Between(low=0.0),
        )
        self.learn_steps = learn_steps and pursuit in ("basis", "deep")
        if self.learn_steps:
            self.betas = nn.Parameter(torch.ones(n_layers))
            parametrize.register_parametrization(self, "betas", Between(SMALLEST_BETA, 1.0))
        layers = LayeredDictionary(self._operators(list(self.atoms)), skip)
        self.skip = skip
        self.mixing = nn.ParameterDict()
        if skip == "dense":
            for (to, source), connection in layers.skips.items():
                shape = connection.target_shape[-1], connection.source_shape[-1]
                self.mixing[f"{to + 1}_{source + 1}"] = nn.Parameter(torch.eye(*shape))
        for j, shape in enumerate(layers.code_shapes):
            generator = torch.Generator().manual_seed(j)
            self.register_buffer(f"direction_{j}", torch.randn(1, *shape, generator=generator))
            if batch_norm:
                self.register_buffer(f"mean_{j}", torch.zeros(shape[-1]))
                self.register_buffer(f"variance_{j}", torch.ones(shape[-1]))
        if batch_norm:
            self.gains = ParameterList([nn.Parameter(torch.ones(shape[-1])) for shape in layers.code_shapes])
            self.offsets = ParameterList([nn.Parameter(torch.zeros(shape[-1])) for shape in layers.code_shapes])
        self.register_buffer("norms", torch.ones(n_layers))
        self.settle()

    @property
    def n_layers(self):
        """Number of layers."""
        return len(self.atoms)

    @property
    def code_shapes(self):
        """``(*positions, n_components)`` of each layer."""
        return [tuple(getattr(self, f"direction_{j}").shape[1:]) for j in range(self.n_layers)]

    @property
    def iterates(self):
        """Whether the pursuit has iterations."""
        return self.pursuit != "thresholding" and self.max_iter > 0

    def forward(self, X):
        """Codes of all layers.

        Parameters
        ----------
        X : Tensor of shape ``(n_samples, *signal_shape)``

        Returns
        -------
        list of Tensor, ``(n_samples, *code_shape)`` each
        """
        layers, alphas, codes = self.feed_forward(X)
        if not self.iterates:
            return codes
        if self.training:
            self._update_norms(layers, 1)
        options = {"positive": self.positive, "max_iter": self.max_iter, "step": self.steps(layers)}
        if self.pursuit == "projection":
            return multilayer_pursuit(X, layers, alphas, momentum=self.momentum, **options)
        if self.pursuit == "basis":
            return layered_basis_pursuit(X, layers, alphas, momentum=self.momentum, **options)
        return deep_pursuit(X, layers, alphas, init=codes, extrapolate=self.momentum, **options)

    def feed_forward(self, X):
        """The effective dictionary and thresholds, and the codes of layered thresholding.

        With `batch_norm`, the first two depend on X in training mode.
        """
        atoms = list(self.atoms)
        operators = self._operators(atoms)
        layers, alphas = self._layers(operators), list(self.thresholds)
        if not self.batch_norm:
            return layers, alphas, layered_thresholding(X, layers, alphas, positive=self.positive)
        codes, scaled = [], []
        for j, operator in enumerate(operators):
            correlations = operator.analyze(layers.target(j, X, codes))
            mean, variance = self._statistics(j, correlations)
            scale = self.gains[j] / torch.sqrt(variance + NORM_EPS)
            alphas[j] = alphas[j] - (self.offsets[j] - scale * mean)
            scaled.append(atoms[j] * scale.reshape(-1, *[1] * (atoms[j].ndim - 1)))
            codes.append(torch.relu(correlations * scale - alphas[j]))
        return self._layers(self._operators(scaled)), alphas, codes

    def steps(self, layers):
        """Step sizes of the layers: ``1 / (beta L)``."""
        bounds = []
        for j, norm in enumerate(self.norms.tolist()):
            if self.pursuit == "deep":
                norm += j + 1 < self.n_layers
                norm += sum(s.norm**2 for (_, source), s in layers.skips.items() if source == j)
            bounds.append(norm)
        if not self.learn_steps:
            # If training diverges, the norm may be infinite; the error about a loss that is not finite then says so.
            return [max(safe_step(bound), sys.float_info.min) for bound in bounds]
        return [1 / (bound * beta) for bound, beta in zip(bounds, self.betas.unbind(), strict=True)]

    def dictionaries(self):
        """Atoms and strides of all layers, as `skrobust.dictionaries.network_coherence` reads them.

        Returns
        -------
        list of pairs
            Array of shape ``(n_components, *kernel_size, n_channels)``, and the stride, of each layer.
        """
        return [(atoms.detach().cpu().numpy(), stride) for atoms, stride in zip(self.atoms, self.stride, strict=True)]

    @torch.no_grad()
    def settle(self):
        """Compute the final norms of the dictionaries; call it after training."""
        was_training = self.training
        self.eval()  # batch normalisation by its running statistics
        layers, _, _ = self.feed_forward(self.norms.new_zeros(1, *self.signal_shape))
        self._update_norms(layers, FINAL_POWER_ITERATIONS)
        self.train(was_training)

    @torch.no_grad()
    def as_arrays(self, dtype):
        """The effective dictionary in eval mode, its thresholds and steps, as arrays for the layered coders.

        Returns
        -------
        layers : LayeredDictionary
        thresholds : list of ndarray of shape (n_components,)
        steps : list of float, or None without iterations
        """
        was_training = self.training
        self.eval()
        layers, alphas, _ = self.feed_forward(self.norms.new_zeros(1, *self.signal_shape))
        steps = [float(step) for step in self.steps(layers)] if self.iterates else None
        self.train(was_training)
        operators = []
        for operator in layers.operators:
            atoms = operator.components.detach().cpu().numpy().astype(dtype)
            operators.append(operator.with_components(atoms))
        skips = self.skip
        if self.mixing:
            skips = {
                tuple(map(int, name.split("_"))): matrix.detach().cpu().numpy() for name, matrix in self.mixing.items()
            }
        thresholds = [alpha.detach().cpu().numpy().astype(dtype) for alpha in alphas]
        return LayeredDictionary(operators, skips), thresholds, steps

    def _statistics(self, j, correlations):
        running = getattr(self, f"mean_{j}"), getattr(self, f"variance_{j}")
        if not self.training:
            return running
        flat = correlations.flatten(0, -2)
        variance, mean = torch.var_mean(flat, dim=0, correction=0)
        with torch.no_grad():
            for average, new in zip(running, (mean, variance), strict=True):
                average.lerp_(new.detach(), NORM_MEMORY)
        return mean, variance

    @torch.no_grad()
    def _update_norms(self, layers, n_iterations):
        """Power iterations for the squared norm of each layer's dictionary."""
        for j, operator in enumerate(layers.operators):
            direction = getattr(self, f"direction_{j}")
            self.norms[j] = update_squared_norm(direction, operator.synthesize, operator.analyze, n_iterations)

    def _operators(self, components):
        shape, operators = self.signal_shape, []
        for atoms, padding, stride in zip(components, self.padding, self.stride, strict=True):
            operators.append(ConvolutionalOperator(atoms, shape, padding=padding, stride=stride))
            shape = operators[-1].code_shape
        return operators

    def _layers(self, operators):
        if self.skip != "dense":
            return LayeredDictionary(operators, self.skip)
        pairs = {tuple(map(int, name.split("_"))): matrix for name, matrix in self.mixing.items()}
        return LayeredDictionary(operators, pairs)
