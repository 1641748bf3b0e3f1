"""Greedy pursuits of tensors: the kernels choose on the CPU, lock-step torch elsewhere; values are differentiable."""

import numpy as np
import torch
from sklearn import get_config

from skrobust.pursuits.result import Result
from skrobust.signals import batch_slices, is_tensor
from skrobust.signals.tensors import check_tensor

from .arrays import GRAM_WITH_MASK, orthogonal_mp_of_arrays
from .batches import Pursuit
from .kernels import DEPENDENT, ROUNDINGS, SLACK, UNMET


def orthogonal_mp_of_tensors(X, components, *, gram, mask, n_jobs, sparse_output, return_result, **settings):
    """`orthogonal_mp` of a tensor `X`; the other arrays may be tensors or not."""
    if mask is not None:
        mask = torch.as_tensor(mask, device=X.device)
        if mask.dtype == torch.bool and mask.shape in (X.shape, X.shape[1:]):
            X = torch.where(mask, X, 0)  # missing samples may be NaN
    X, components = checked_tensors(X, components, "orthogonal_mp")
    if is_tensor(settings["tol"]):
        settings["tol"] = as_array(settings["tol"])
    with torch.no_grad():
        pursue = _by_kernels if X.device.type == "cpu" else by_lock_step
        atoms, values, *statistics = pursue(X, components, gram, mask, n_jobs, settings)
    values = FixedSupport.apply(X, components, atoms, values, mask)
    codes = assemble_codes(atoms, values, len(components), sparse_output)
    return Result(codes, *statistics) if return_result else codes


def checked_tensors(X, components, name):
    """Both as tensors of the dtype and device of `X`, finite and of matching shapes; `name` is that of the pursuit."""
    X = check_tensor(X, name=name)
    components = check_tensor(torch.as_tensor(components, device=X.device), name="components").to(X.dtype)
    if X.shape[1] != components.shape[1]:
        raise ValueError(
            f"X has {X.shape[1]} features, but components has {components.shape[1]}: its rows must be atoms of "
            f"{X.shape[1]} features."
        )
    return X, components


def _by_kernels(X, components, gram, mask, n_jobs, settings):
    codes, *statistics = orthogonal_mp_of_arrays(
        *(None if array is None else np.asarray(array) for array in (X.detach(), components.detach())),
        gram=None if gram is None else as_array(gram),
        mask=None if mask is None else mask.numpy(),
        sparse_output=True,
        return_result=True,
        n_jobs=n_jobs,
        **settings,
    )
    return *padded_codes(codes), *statistics


def padded_codes(codes):
    """Atoms and values of a csr_array, one row per signal; atoms in order, then ``n_atoms`` and values 0."""
    n_nonzero = np.diff(codes.indptr)
    filled = torch.from_numpy(np.arange(max(1, n_nonzero.max())) < n_nonzero[:, None])
    atoms = torch.full(filled.shape, codes.shape[1])
    atoms[filled] = torch.from_numpy(codes.indices.astype(np.int64))
    nonzero_values = torch.from_numpy(codes.data)
    values = torch.zeros(filled.shape, dtype=nonzero_values.dtype)
    values[filled] = nonzero_values
    return atoms, values


def as_array(array):
    """A tensor or array-like as an ndarray."""
    return array.detach().cpu().numpy() if is_tensor(array) else np.asarray(array)


def by_lock_step(X, components, gram, mask, n_jobs, settings):
    """Atoms and values of all codes, and the other fields of a `Result`.

    In each chunk of signals, all signals select one atom per step. Atoms and values have shape (n_signals, max_atoms):
    atoms in order, then ``n_atoms`` and values 0.
    """
    n_atoms, n_features = components.shape
    pursuit = Pursuit(
        len(X), n_atoms, n_features, np.dtype(str(X.dtype)[6:]), sparse_output=True, return_result=True, **settings
    )
    if mask is not None:
        mask = _checked_mask(mask, X)
    steps = _LockStep(pursuit, components, gram, has_mask=mask is not None)
    chunks = []
    for batch in batch_slices(len(X), steps.bytes_per_signal):
        tol = None if pursuit.tol is None else torch.from_numpy(pursuit.tol[batch].copy()).to(X.device)
        chunks.append(steps.run(X[batch], None if mask is None else mask[batch], tol))
    pursuit.warn(steps.tally)
    atoms, values, objective, is_short = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    n_iter, converged = (atoms < n_atoms).sum(1), None if pursuit.tol is None else ~as_array(is_short)
    return atoms, values, as_array(objective), None, as_array(n_iter), converged


def _checked_mask(mask, X):
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean, True where a sample is present; got dtype {mask.dtype}.")
    if mask.shape not in (X.shape, X.shape[1:]):
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}; that of X, {tuple(X.shape)}, or of one signal is needed."
        )
    return mask.expand(X.shape)


class _LockStep:
    """The steps of `steps.py` for a chunk of signals at once, with an orthonormal basis.

    Signals that are done stay in the chunk and select no more atoms.
    """

    def __init__(self, pursuit, components, gram, has_mask):
        self.pursuit, self.components, self.has_mask = pursuit, components, has_mask
        self.noise = ROUNDINGS * torch.finfo(components.dtype).eps
        self.tally = np.zeros(3, dtype=np.int64)
        scales = inv_norms(components)
        self.unit_atoms = components * scales[:, None]
        m, d = components.shape
        size = components.element_size()
        k = pursuit.max_atoms
        self.bytes_per_signal = size * (m * (k + 6) + 8 * d) + 24 * k * (d + k)
        self.gram = None
        if gram is not None:
            if has_mask:
                raise ValueError(GRAM_WITH_MASK)
            gram = torch.as_tensor(gram, dtype=components.dtype, device=components.device)
            if gram.shape != (m, m):
                raise ValueError(f"gram has shape {tuple(gram.shape)}; the inner products of {m} atoms have {(m, m)}.")
            self.gram = gram * scales * scales[:, None]
        elif not has_mask and m * m * size <= get_config()["working_memory"] * 2**20:
            self.gram = self.unit_atoms @ self.unit_atoms.T

    def run(self, X, mask, tol):
        pursuit, m = self.pursuit, len(self.components)
        # Signals are divided by a power of two near their largest sample: squares stay in range, digits do not change.
        scale = torch.exp2(torch.frexp(X.abs().amax(1))[1].to(X.dtype) - 1).clamp_min(torch.finfo(X.dtype).tiny)
        X = X / scale[:, None]
        squared_tol = None if tol is None else torch.square(tol / scale.to(torch.float64))
        correlations = X @ self.unit_atoms.T
        masked_inv_norms = None
        if mask is not None:
            masked_inv_norms = mask.to(X.dtype) @ torch.square(self.unit_atoms).T
            masked_inv_norms = torch.where(masked_inv_norms > 0, masked_inv_norms.rsqrt(), 0)
            correlations *= masked_inv_norms
        initial = torch.square(X.to(torch.float64)).sum(1)
        energy = initial.clone()
        floor = self.noise * correlations.abs().amax(1)
        basis = X.new_zeros(len(X), pursuit.max_atoms, m)
        atom_residuals = torch.ones_like(correlations) if pursuit.by_gain else None
        atoms = torch.full((len(X), pursuit.max_atoms), m, device=X.device)
        active = torch.ones(len(X), dtype=torch.bool, device=X.device)
        for k in range(pursuit.max_atoms):
            if squared_tol is not None:
                self._recompute_energy(energy, initial, squared_tol, active, X, mask, atoms[:, :k])
                active &= energy > squared_tol
            j = self._next(correlations, atom_residuals, k)
            c = correlations.gather(1, j)[:, 0]
            active &= c.abs() > floor
            components_in_basis = basis[:, :k].gather(2, j[:, None].expand(-1, k, 1))[:, :, 0]
            pivot = 1 - torch.square(components_in_basis).sum(1)
            dependent = active & ~(pivot > self.noise)
            self.tally[DEPENDENT] += int(dependent.sum())
            active &= ~dependent
            if not bool(active.any()):
                break
            atoms[active, k] = j[active, 0]
            inverse = torch.where(active, pivot.clamp_min(self.noise).rsqrt(), 0)
            row = self._gram_row(j[:, 0], mask, masked_inv_norms)
            row -= torch.bmm(components_in_basis[:, None], basis[:, :k])[:, 0]
            row *= inverse[:, None]
            basis[:, k] = row
            c = c * inverse
            correlations.addcmul_(row, c[:, None], value=-1)
            energy -= torch.square(c.to(torch.float64))
            if atom_residuals is not None:
                atom_residuals.addcmul_(row, row, value=-1)
        atoms = atoms.sort(1).values
        values, residual = _least_squares(X, self.components, atoms, mask)
        squares = torch.square(residual.to(torch.float64))
        is_short = squares > (torch.inf if squared_tol is None else squared_tol + self.noise**2 * initial)
        self.tally[UNMET] += int(is_short.sum())
        return atoms, values * scale[:, None], squares / 2 * torch.square(scale.to(torch.float64)), is_short

    def _next(self, correlations, atom_residuals, k):
        scores = correlations.abs()
        if atom_residuals is not None and k > 0:
            gains = torch.square(scores) / atom_residuals.clamp_min(self.noise)
            scores = torch.where(atom_residuals > self.noise, gains, 0)
        return scores.argmax(1, keepdim=True)

    def _gram_row(self, j, mask, masked_inv_norms):
        if self.gram is not None:
            return self.gram[j]
        if mask is None:
            return self.unit_atoms[j] @ self.unit_atoms.T
        own = self.unit_atoms[j] * mask * masked_inv_norms.gather(1, j[:, None])
        return (own @ self.unit_atoms.T) * masked_inv_norms

    def _recompute_energy(self, energy, initial, squared_tol, active, X, mask, atoms):
        """Replace squared residuals too close to the limit for their recursion to decide."""
        unsure = torch.nonzero(active & ((energy - squared_tol).abs() <= SLACK * self.noise * initial))[:, 0]
        if len(unsure) and atoms.shape[1]:
            mask = None if mask is None else mask[unsure]
            _, residual = _least_squares(X[unsure], self.components, atoms[unsure], mask)
            energy[unsure] = torch.square(residual.to(torch.float64))


def inv_norms(components):
    largest = components.abs().amax(1)
    unit = torch.where(largest > 0, largest, 1)
    norms = torch.linalg.vector_norm(components / unit[:, None], dim=1)
    return torch.where(largest > 0, 1 / (norms * unit), 0)


class _Selected:
    """The selected atoms of a chunk of signals, in float64, and the solution of their normal equations."""

    def __init__(self, components, atoms, mask):
        components = components.to(torch.float64)
        self.filled = atoms < len(components)
        self.rows = components[atoms.clamp_max(len(components) - 1)] * self.filled[:, :, None]
        if mask is not None:
            self.rows *= mask[:, None]
        self.scales = torch.where(self.filled, inv_norms(self.rows.flatten(0, 1)).view(atoms.shape), 0)
        unit = self.rows * self.scales[:, :, None]
        gram = unit @ unit.mT
        # The diagonal is 1 where no atom is selected, and slightly larger elsewhere, against rounding errors.
        roundings = 4 * atoms.shape[1] * torch.finfo(torch.float64).eps
        gram.diagonal(dim1=1, dim2=2).add_((self.scales == 0).to(torch.float64) + roundings)
        self._factor = torch.linalg.cholesky_ex(gram).L

    def solve(self, right):
        """Coefficients for the right-hand sides of the normal equations, of shape (n_signals, max_atoms)."""
        solved = torch.cholesky_solve((right * self.scales)[:, :, None], self._factor)[:, :, 0]
        return solved * self.scales

    def project(self, X):
        """Inner products with signals."""
        return (self.rows @ X[:, :, None])[:, :, 0]

    def combine(self, values):
        """Signals from coefficients."""
        return (values[:, None] @ self.rows)[:, 0]


def _least_squares(X, components, atoms, mask):
    selected = _Selected(components, atoms, mask)
    X64 = X.to(torch.float64)
    values = selected.solve(selected.project(X64))
    residual = torch.linalg.vector_norm(X64 - selected.combine(values), dim=1)
    return values.to(X.dtype), residual.to(X.dtype)


class FixedSupport(torch.autograd.Function):
    """Values of codes as functions of signals and atoms for a fixed selection: z = (D_S D_S^T)^-1 D_S x.

    Only the arguments are stored for the backward pass. For the gradient g of z and w = (D_S D_S^T)^-1 g, that of x is
    w D_S and that of D_S is the outer products w (x - z D_S) - z (w D_S).
    """

    @staticmethod
    def forward(ctx, X, components, atoms, values, mask):
        ctx.save_for_backward(X, components, atoms, values, mask)
        return values.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        X, components, atoms, values, mask = ctx.saved_tensors
        n, d = X.shape
        gradient_X = torch.zeros_like(X) if ctx.needs_input_grad[0] else None
        gradient_atoms = torch.zeros_like(components, dtype=torch.float64) if ctx.needs_input_grad[1] else None
        if mask is not None:
            mask = mask.expand(X.shape)
        max_atoms = atoms.shape[1]
        for batch in batch_slices(n, 8 * (4 * max_atoms * (d + max_atoms) + 4 * d)):
            selected = _Selected(components, atoms[batch], None if mask is None else mask[batch])
            weights = selected.solve(gradient[batch].to(torch.float64))
            combined = selected.combine(weights)
            if gradient_X is not None:
                gradient_X[batch] = combined.to(X.dtype)
            if gradient_atoms is not None:
                z = values[batch].to(torch.float64)
                rest = X[batch].to(torch.float64) - selected.combine(z)
                outer = weights[:, :, None] * rest[:, None] - z[:, :, None] * combined[:, None]
                gradient_atoms.index_add_(0, atoms[batch][selected.filled], outer[selected.filled])
        return gradient_X, None if gradient_atoms is None else gradient_atoms.to(components.dtype), None, None, None


def assemble_codes(atoms, values, n_atoms, sparse_output):
    """Padded codes as a sparse or dense tensor of shape (n_signals, n_atoms)."""
    filled = atoms < n_atoms
    rows = torch.nonzero(filled)[:, 0]
    positions, nonzero_values = (rows, atoms[filled]), values[filled]
    shape = (len(atoms), n_atoms)
    if sparse_output:
        positions = torch.stack(positions)
        return torch.sparse_coo_tensor(positions, nonzero_values, shape, is_coalesced=True, check_invariants=False)
    return torch.zeros(shape, dtype=values.dtype, device=values.device).index_put(positions, nonzero_values)
