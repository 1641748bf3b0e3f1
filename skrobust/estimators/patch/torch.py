"""`PatchDictionaryDenoiser` as a torch module, with the backward passes that an attacker may choose."""

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from skrobust.bridge import FrontEndModule
from skrobust.pursuits.greedy.omp.batches import resolve_max_atoms
from skrobust.signals import batch_slices
from skrobust.signals.tensors import is_exporting, kept_tensor

SMOOTH_TEMPERATURE = 0.1
"""Width of the smooth selection as a fraction of the largest squared correlation."""


class PatchModule(FrontEndModule):
    """The front end of a fitted `PatchDictionaryDenoiser`.

    Gradient modes. "exact": that of least squares on the atoms of each patch, and of the clip. "projection": that of
    least squares only. "smooth": that of matching pursuit with a softmax over squared correlations as selection.
    "identity": as if the front end were the identity. "skip": no front end, forward and backward. A dictionary learned
    from the image itself is constant in the backward pass.

    Tensors on the CPU use the kernels for NumPy arrays, others use torch only.
    """

    def __init__(self, estimator, conversion):
        super().__init__(conversion.gradient, layout=estimator._layout, clip=estimator.clip, one_node=True)
        self.estimator = estimator
        self.register_buffer("value_indices", conversion.indices(_value_indices(estimator._grid)), persistent=False)

    def exact(self, seen):
        return self.estimator._average(self._sums(seen), seen)

    def relaxed(self, seen, codes):
        return self.estimator._average(self._soft_sums(seen), seen)

    def _sums(self, pixels):
        """Sums of the approximations of all patches; their gradient is that for fixed atoms."""
        if is_exporting():
            return self._exported_sums(pixels)
        sums = []
        for part, pursuit in self.estimator._pursuits(pixels.detach().cpu().numpy()):
            if self.uses_kernels(pixels):
                sums.append(_FixedSupports.apply(pixels[part], pursuit))
            else:
                sums.append(self._sums_on_device(pixels[part], pursuit))
        return torch.cat(sums)

    def _exported_sums(self, pixels):
        from skrobust.pursuits.proximal.export import greedy_approximations

        estimator = self.estimator
        if estimator._learns_in("transform"):
            raise ValueError(
                "A PatchDictionaryDenoiser with dictionary='image' learns from every image that it sees, which an "
                "exported graph cannot do: use dictionary='training', or give atoms."
            )
        patches, means = self._centred(pixels)
        approximations, _ = greedy_approximations(
            patches,
            kept_tensor({}, (), lambda: estimator.components_, pixels),
            max_atoms=resolve_max_atoms(
                estimator.n_nonzero_coefs, estimator._tol, len(estimator.components_), estimator._grid.n_features
            ),
            tol=estimator._tol,
            by_gain=estimator.selection == "ols",
        )
        return self._put_back(approximations + means, pixels)

    @staticmethod
    def uses_kernels(pixels):
        return pixels.device.type == "cpu"

    def _sums_on_device(self, pixels, pursuit):
        from skrobust.pursuits import orthogonal_mp

        components = torch.as_tensor(pursuit.components).to(pixels)
        sums = []
        for batch in self._batches(pixels, len(components)):
            patches, means = self._centred(pixels[batch])
            codes = orthogonal_mp(
                patches,
                components,
                n_nonzero_coefs=pursuit.max_atoms,
                tol=pursuit.tol,
                selection="ols" if pursuit.by_gain else "omp",
                sparse_output=False,
            )
            sums.append(self._put_back(codes @ components + means, pixels[batch]))
        return torch.cat(sums)

    def _soft_sums(self, pixels):
        """Sums of patches approximated by relaxed matching pursuit, with as many steps as each has atoms."""
        sums = []
        for part, pursuit in self.estimator._pursuits(pixels.detach().cpu().numpy()):
            images = pixels[part]
            _, _, sizes = pursuit.sums(images.detach().cpu().numpy(), return_supports=True)
            sizes = torch.as_tensor(sizes, device=pixels.device).reshape(len(images), -1)
            atoms = torch.as_tensor(pursuit.components).to(pixels)
            atoms = atoms / atoms.norm(dim=1, keepdim=True).clamp_min(torch.finfo(atoms.dtype).tiny)
            for batch in self._batches(images, len(atoms)):
                # Only the pixels of a batch are stored for the backward pass.
                sums.append(
                    checkpoint(self._soft_batch, images[batch], atoms, sizes[batch].flatten(), use_reentrant=False)
                )
        return torch.cat(sums)

    def _soft_batch(self, pixels, atoms, sizes):
        patches, means = self._centred(pixels)
        order = torch.argsort(sizes, descending=True, stable=True)
        n_at_least = torch.bincount(sizes).flip(0).cumsum(0).flip(0).tolist()  # number of patches with at least k atoms
        remaining, finished = patches[order], []
        for n in n_at_least[1:]:
            finished.append(remaining[n:])
            remaining = remaining[:n]
            correlations = remaining @ atoms.T
            scores = correlations.square()
            width = SMOOTH_TEMPERATURE * scores.detach().amax(1, keepdim=True)
            weights = torch.softmax(scores / width.clamp_min(torch.finfo(width.dtype).tiny), 1)
            remaining = remaining - (weights * correlations) @ atoms
        residuals = torch.empty_like(patches).index_copy(0, order, torch.cat([remaining, *finished[::-1]]))
        return self._put_back(patches - residuals + means, pixels)

    def _batches(self, pixels, n_atoms):
        n_steps = 4  # products, squares, weights, and what autograd stores
        bytes_per_image = self.value_indices.numel() * 4 + len(self.value_indices) * n_atoms * n_steps
        return batch_slices(len(pixels), bytes_per_image * pixels.element_size() * 4)

    def _centred(self, pixels):
        """Patches minus their channel means, as rows, and these means."""
        patches = pixels.flatten(1)[:, self.value_indices].flatten(0, 1)
        if not self.estimator.remove_mean:
            return patches, torch.zeros_like(patches)
        by_channel = patches.unflatten(1, (-1, pixels.shape[-1]))
        means = by_channel.mean(1, keepdim=True).expand_as(by_channel).flatten(1)
        return patches - means, means

    def _put_back(self, patches, pixels):
        sums = torch.zeros_like(pixels).flatten(1).T
        patches = patches.unflatten(0, (pixels.shape[0], len(self.value_indices))).flatten(1).T
        return sums.index_add(0, self.value_indices.flatten(), patches).T.reshape(pixels.shape)


class _FixedSupports(torch.autograd.Function):
    """Sums of coded patches on the CPU; the derivative is that for fixed atoms of each patch."""

    @staticmethod
    def forward(ctx, pixels, pursuit):
        if not ctx.needs_input_grad[0]:
            return torch.from_numpy(pursuit.sums(_numpy(pixels)))
        sums, ctx.supports, ctx.sizes = pursuit.sums(_numpy(pixels), return_supports=True)
        ctx.pursuit = pursuit
        return torch.from_numpy(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return torch.from_numpy(ctx.pursuit.projections(_numpy(grad), ctx.supports, ctx.sizes)), None


def _numpy(tensor):
    return np.ascontiguousarray(tensor.detach().numpy())


def _value_indices(grid):
    """Indices of the values of each patch in a flat image, (n_patches, n_features)."""
    numbers = np.arange(grid.coverage.size * grid.n_channels).reshape(1, *grid.image_size, grid.n_channels)
    return grid.extract(numbers, np.arange(grid.n_patches))
