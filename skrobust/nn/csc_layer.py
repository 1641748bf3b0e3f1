"""`CSCLayer`: a convolutional layer whose output is the sparse code of its input."""

import math
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn.utils import parametrize

from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import implicit_pursuit, unrolled_pursuit
from skrobust.signals.arrays import by_sample

from .constraints import Constrainable, UnitNorm
from .norms import NormSchedule, update_squared_norm

SHARE_OF_STEP = 0.9
"""Step size over the inverse squared norm, as in the SDNet paper; leaves room for an estimate that is too low."""
ITERATIONS = 50
"""Power iterations for a norm that is not known yet, or in evaluation mode after the weights have changed."""
FEW_ITERATIONS = 10
"""Power iterations for an update in training."""
LARGEST_GRID = 64
"""Pixels per axis on which the norm is estimated, at most: on larger images it is hardly larger."""


class CSCLayer(Constrainable, nn.Module):
    """Convolutional sparse coding in place of a `torch.nn.Conv2d`.

    The output z minimises ``1/2 ||x - A(z)||^2 + alpha ||z||_1``, where ``A(z)`` is the sum of all atoms at all
    positions, times their coefficients. A few steps of FISTA from zero approximate it, or a solver finds it.

    Parameters
    ----------
    in_channels : int
    out_channels : int
        Number of atoms.
    kernel_size : int or tuple of int
    stride : int or tuple of int, default=1
    padding : int, default=0
        Zeros at each edge of the input; smaller than the kernel.
    n_iter : int, default=2
        Steps of FISTA, for ``differentiation="unrolled"``. Momentum acts from the third step on, so that two steps
        are two steps of ISTA.
    alpha : float or Tensor of shape (n_samples,), default=0.1
        Weight of the l1 norm, >= 0 (> 0 if implicit). May be changed at any time, also to one value per sample.
    nonnegative : bool, default=True
        Codes >= 0, as if a ReLU followed.
    differentiation : {"unrolled", "implicit"}, default="unrolled"
        "unrolled": `n_iter` steps, differentiated one by one. "implicit": the solution, up to a duality gap of `tol`,
        with the derivative of the solution. Takes longer; for small problems.
    tol : float, default=1e-6
        Relative duality gap, for ``differentiation="implicit"``.
    max_iter : int, default=1000
        Most iterations of the solver, for ``differentiation="implicit"``.

    Attributes
    ----------
    weight : Tensor of shape ``(out_channels, in_channels, *kernel_size)``
        Atoms of norm 1. The stored values, of any norm, are ``parametrizations.weight.original``.
    squared_norm : Tensor of no dimension
        Estimate of the squared norm of A; the step size is 0.9 over it.

    See Also
    --------
    skrobust.ConvSparseCoder : The same problem as a scikit-learn estimator that learns without labels.
    skrobust.nn.LayeredPursuit : Several layers, pursued one by one or jointly.

    Notes
    -----
    The squared norm is found by power iterations from where the last ones ended: 50 on first use, on larger images than
    before, and in evaluation mode when the weights have changed; in training ten after each change of the weights, or
    after every eighth once the norm is nearly constant.

    Under `torch.compile`, power iterations run outside the compiled graph: each training step breaks it once per layer.
    In evaluation mode there is no break once the norm is known.

    Under `torch.autocast`, convolutions have half precision; codes have that of the weights.

    References
    ----------
    .. [1] X. Dai, M. Li, P. Zhai, S. Tong, X. Gao, S. Huang, Z. Zhu, C. You, Y. Ma, "Revisiting sparse convolutional
       model for visual recognition", NeurIPS 2022.

    Examples
    --------
    >>> import torch
    >>> from skrobust.nn import CSCLayer
    >>> layer = CSCLayer(3, 16, kernel_size=3, padding=1, n_iter=10)
    >>> images = torch.rand(2, 3, 8, 8)
    >>> codes = layer(images)
    >>> codes.shape, layer.reconstruct(codes, (8, 8)).shape
    (torch.Size([2, 16, 8, 8]), torch.Size([2, 3, 8, 8]))
    >>> layer.alpha = torch.tensor([0.1, 0.5])  # one per image
    >>> fewer = layer(images)
    >>> bool((fewer[1] != 0).sum() < (codes[1] != 0).sum())
    True
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        *,
        n_iter=2,
        alpha=0.1,
        nonnegative=True,
        differentiation="unrolled",
        tol=1e-6,
        max_iter=1000,
    ):
        super().__init__()
        self.kernel_size, self.stride = _pair("kernel_size", kernel_size), _pair("stride", stride)
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("max_iter", max_iter)):
            if not (isinstance(value, Integral) and value >= 1):
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}.")
        if not (isinstance(padding, Integral) and 0 <= padding < min(self.kernel_size)):
            raise ValueError(
                f"padding must be an integer >= 0 and smaller than kernel_size={kernel_size}, got {padding!r}."
            )
        if not (isinstance(n_iter, Integral) and n_iter >= 1):
            raise ValueError(f"n_iter must be an integer >= 1, got {n_iter!r}.")
        if differentiation not in ("unrolled", "implicit"):
            raise ValueError(f"differentiation must be 'unrolled' or 'implicit', got {differentiation!r}.")
        if not tol > 0:
            raise ValueError(f"tol must be > 0, got {tol!r}.")
        self.in_channels, self.out_channels, self.padding = in_channels, out_channels, int(padding)
        self.n_iter, self.alpha, self.nonnegative = n_iter, alpha, nonnegative
        self.differentiation, self.tol, self.max_iter = differentiation, tol, max_iter
        atoms = torch.empty(out_channels, in_channels, *self.kernel_size)
        self.weight = nn.Parameter(UnitNorm()(nn.init.kaiming_normal_(atoms)))
        parametrize.register_parametrization(self, "weight", UnitNorm())
        self.register_buffer("squared_norm", torch.ones(()))
        start = torch.randn(1, in_channels, *self.kernel_size, generator=torch.Generator().manual_seed(0))
        self.register_buffer("direction", start)
        self._schedule = NormSchedule()

    @property
    def alpha(self):
        """Weight of the l1 norm."""
        return self._alpha

    @alpha.setter
    def alpha(self, value):
        if isinstance(value, torch.Tensor):
            if value.ndim > 1:
                raise ValueError(f"alpha must be a number or have shape (n_samples,), got shape {tuple(value.shape)}.")
            smallest = float(value.detach().min()) if value.numel() else math.nan
        else:
            smallest = float(value) if isinstance(value, Real) else math.nan
        if not 0 <= smallest < math.inf:
            raise ValueError(f"alpha must be a number >= 0 or a tensor of them, one per sample, got {value!r}.")
        self._alpha = value

    def forward(self, x):
        """Codes of images.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, height, width)

        Returns
        -------
        Tensor of shape (n_samples, out_channels, rows, columns)
        """
        self._check_input(x)
        weight = self.weight
        if self._needs_norm(x):
            self._update_norm(weight.detach(), x.shape[2:])
        signals = x.movedim(1, -1).to(weight.dtype)
        operator, alpha = self._operator(weight, x.shape[2:]), self._alpha_for(x)
        if self.differentiation == "implicit":
            options = {"positive": self.nonnegative, "tol": self.tol, "max_iter": self.max_iter}
            if isinstance(alpha, torch.Tensor):  # codes of x at alpha are alpha times those of x / alpha at 1
                codes = implicit_pursuit(signals / alpha, operator, 1.0, **options) * alpha
            else:
                codes = implicit_pursuit(signals, operator, alpha, **options)
        else:
            step = SHARE_OF_STEP / self.squared_norm
            codes = unrolled_pursuit(signals, operator, alpha, n_iter=self.n_iter, positive=self.nonnegative, step=step)
        return codes.movedim(-1, 1)

    def reconstruct(self, codes, size):
        """Images that codes stand for, ``A(z)``.

        Parameters
        ----------
        codes : Tensor of shape (n_samples, out_channels, rows, columns)
        size : tuple of int
            Height and width of the images.

        Returns
        -------
        Tensor of shape (n_samples, in_channels, height, width)
        """
        operator = self._operator(self.weight, size)
        return operator.synthesize(codes.movedim(1, -1)).movedim(-1, 1)

    def residual(self, x):
        """What the codes of images leave out, ``x - A(z)``.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, height, width)

        Returns
        -------
        Tensor of the shape of `x`
        """
        return x - self.reconstruct(self(x), x.shape[2:])

    def dictionaries(self):
        """Atoms and stride, as `skrobust.dictionaries.network_coherence` reads them.

        Returns
        -------
        list of one pair
            Array of shape ``(out_channels, *kernel_size, in_channels)``, and the stride.
        """
        return [(self.weight.detach().movedim(1, -1).cpu().numpy(), self.stride)]

    def settle(self):
        """Estimate the squared norm until it converges, on the largest grid seen so far."""
        self._update_norm(self.weight.detach(), self.direction.shape[2:], converge=True)

    def extra_repr(self):
        """Show the parameters of the constructor."""
        alpha = "per sample" if isinstance(self.alpha, torch.Tensor) and self.alpha.ndim else f"{float(self.alpha):g}"
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, n_iter={self.n_iter}, alpha={alpha}, nonnegative={self.nonnegative}, "
            f"differentiation={self.differentiation!r}"
        )

    def get_extra_state(self):
        """Part of the state dict: when the norm was estimated, so that a resumed training goes on exactly."""
        return self._schedule.state(self.parametrizations.weight.original)

    def set_extra_state(self, state):
        """Reverse `get_extra_state`."""
        self._schedule.load(state)

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        direction = state_dict.get(f"{prefix}direction")
        if direction is not None and direction.shape != self.direction.shape:  # of another size of images
            self.direction = self.direction.new_zeros(direction.shape)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _check_input(self, x):
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x must have shape (n_samples, {self.in_channels}, height, width), got {tuple(x.shape)}.")

    def _alpha_for(self, x):
        alpha = self.alpha
        if not isinstance(alpha, torch.Tensor):
            return alpha
        if alpha.ndim and len(alpha) not in (1, len(x)):
            raise ValueError(f"alpha has {len(alpha)} values for {len(x)} samples.")
        return by_sample(alpha, x).to(device=x.device, dtype=self.squared_norm.dtype)

    def _operator(self, weight, grid):
        atoms = weight.movedim(1, -1)
        return ConvolutionalOperator(
            atoms, (*grid, self.in_channels), padding=self.padding, stride=self.stride, evaluation="spatial"
        )

    def _needs_norm(self, x):
        if self.training or self._outgrown(x.shape[2:]):
            return True
        if not self._schedule.in_full:
            return True
        return not torch.compiler.is_compiling() and self._schedule.is_stale(self.parametrizations.weight.original)

    def _outgrown(self, grid):
        return any(min(n, LARGEST_GRID) > m for n, m in zip(grid, self.direction.shape[2:], strict=True))

    @torch.compiler.disable
    def _update_norm(self, weight, grid, converge=False):
        original, outgrown = self.parametrizations.weight.original, self._outgrown(grid)
        in_full = converge or outgrown or not self.training or self._schedule.interval == 0
        if not (in_full or self._schedule.is_stale(original)):
            return
        is_due = self._schedule.note(original)
        if not (in_full or is_due):
            return
        if outgrown:
            self._enlarge_direction(grid)
        operator, before = self._operator(weight, self.direction.shape[2:]), float(self.squared_norm)
        n_iter = ITERATIONS if in_full else FEW_ITERATIONS
        # The adjoint has the same norm, and its argument does not depend on stride and padding.
        direction = self.direction.movedim(1, -1)
        self.squared_norm.copy_(update_squared_norm(direction, operator.analyze, operator.synthesize, n_iter))
        self._schedule.adapt(before, float(self.squared_norm), in_full)

    @torch.no_grad()
    def _enlarge_direction(self, grid):
        old = self.direction
        shape = [max(min(n, LARGEST_GRID), m) for n, m in zip(grid, old.shape[2:], strict=True)]
        noise = torch.randn(1, self.in_channels, *shape, generator=torch.Generator().manual_seed(1)).to(old)
        noise[:, :, : old.shape[2], : old.shape[3]] += old * (noise.norm() / old.norm().clamp(min=1e-30))
        self.direction = noise


def _pair(name, value):
    pair = (value, value) if isinstance(value, Integral) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(n, Integral) and n >= 1 for n in pair):
        raise ValueError(f"{name} must be an integer >= 1 or two of them, got {value!r}.")
    return tuple(map(int, pair))
