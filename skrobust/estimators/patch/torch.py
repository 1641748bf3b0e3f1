"""`PatchDictionaryDenoiser` as a torch module, with the backward passes that an attacker may choose."""

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from skrobust.bridge import FrontEndModule
from skrobust.pursuits.greedy.omp.batches import most_atoms
from skrobust.signals import batch_slices
from skrobust.signals.tensors import is_exporting, kept_tensor

SMOOTH_TEMPERATURE = 0.1
"""Width of the smooth selection as a fraction of the largest squared correlation."""


class PatchModule(FrontEndModule):
    """The front end of a fitted `PatchDictionaryDenoiser`.

    Gradient modes: "exact" differentiates through the least squares on the atoms of each patch and the clip,
    "projection" through the former alone, "smooth" through matching pursuit whose choice of an atom is a softmax over
    squared correlations, "identity" not at all; "skip" leaves the front end out. A dictionary learned from the image
    itself is held fixed in the backward pass.

    Tensors on the CPU go through the kernels of NumPy arrays, others through torch alone.
    """

    def __init__(self, estimator, conversion):
        super().__init__(conversion.gradient, layout=estimator._layout, clip=estimator.clip, one_node=True)
        self.estimator = estimator
        self.register_buffer("places", conversion.indices(_places(estimator._grid)), persistent=False)

    def exact(self, seen):
        return self.estimator._average(self._sums(seen), seen)

    def relaxed(self, seen, codes):
        return self.estimator._average(self._soft_sums(seen), seen)

    def _sums(self, pixels):
        """Sums of the approximations of all patches; their gradient follows the atoms chosen."""
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
                "A PatchDictionaryDenoiser with dictionary='image' learns from every image that it sees, which no "
                "exported graph can: use dictionary='training', or atoms of your own."
            )
        patches, means = self._centred(pixels)
        found, _ = greedy_approximations(
            patches,
            kept_tensor({}, (), lambda: estimator.components_, pixels),
            most=most_atoms(
                estimator.n_nonzero_coefs, estimator._tol, len(estimator.components_), estimator._grid.n_features
            ),
            tol=estimator._tol,
            by_gain=estimator.selection == "ols",
        )
        return self._put_back(found + means, pixels)

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
                n_nonzero_coefs=pursuit.most,
                tol=pursuit.tol,
                selection="ols" if pursuit.by_gain else "omp",
                sparse_output=False,
            )
            sums.append(self._put_back(codes @ components + means, pixels[batch]))
        return torch.cat(sums)

    def _soft_sums(self, pixels):
        """Sums of patches as relaxed matching pursuits see them, after as many steps as the pursuit of each took."""
        sums = []
        for part, pursuit in self.estimator._pursuits(pixels.detach().cpu().numpy()):
            images = pixels[part]
            _, _, sizes = pursuit.sums(images.detach().cpu().numpy(), return_supports=True)
            sizes = torch.as_tensor(sizes, device=pixels.device).reshape(len(images), -1)
            atoms = torch.as_tensor(pursuit.components).to(pixels)
            atoms = atoms / atoms.norm(dim=1, keepdim=True).clamp_min(torch.finfo(atoms.dtype).tiny)
            for batch in self._batches(images, len(atoms)):
                # Nothing of a batch is kept for the backward pass but its pixels.
                sums.append(
                    checkpoint(self._soft_batch, images[batch], atoms, sizes[batch].flatten(), use_reentrant=False)
                )
        return torch.cat(sums)

    def _soft_batch(self, pixels, atoms, sizes):
        patches, means = self._centred(pixels)
        order = torch.argsort(sizes, descending=True, stable=True)
        still = torch.bincount(sizes).flip(0).cumsum(0).flip(0).tolist()  # patches with at least so many atoms
        rest, ended = patches[order], []
        for n in still[1:]:
            ended.append(rest[n:])
            rest = rest[:n]
            correlations = rest @ atoms.T
            strength = correlations.square()
            width = SMOOTH_TEMPERATURE * strength.detach().amax(1, keepdim=True)
            share = torch.softmax(strength / width.clamp_min(torch.finfo(width.dtype).tiny), 1)
            rest = rest - (share * correlations) @ atoms
        residuals = torch.empty_like(patches).index_copy(0, order, torch.cat([rest, *ended[::-1]]))
        return self._put_back(patches - residuals + means, pixels)

    def _batches(self, pixels, n_atoms):
        n_steps = 4  # products, squares, shares and what autograd keeps of them
        bytes_per_image = self.places.numel() * 4 + len(self.places) * n_atoms * n_steps
        return batch_slices(len(pixels), bytes_per_image * pixels.element_size() * 4)

    def _centred(self, pixels):
        """Patches as rows, and the means of their channels; the sum of both is what they were."""
        patches = pixels.flatten(1)[:, self.places].flatten(0, 1)
        if not self.estimator.remove_mean:
            return patches, torch.zeros_like(patches)
        by_channel = patches.unflatten(1, (-1, pixels.shape[-1]))
        means = by_channel.mean(1, keepdim=True).expand_as(by_channel).flatten(1)
        return patches - means, means

    def _put_back(self, patches, pixels):
        sums = torch.zeros_like(pixels).flatten(1).T
        patches = patches.unflatten(0, (pixels.shape[0], len(self.places))).flatten(1).T
        return sums.index_add(0, self.places.flatten(), patches).T.reshape(pixels.shape)


class _FixedSupports(torch.autograd.Function):
    """Sums of coded patches on the CPU; the derivative holds the atoms of each patch fixed."""

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


def _places(grid):
    """Numbers of the values of each patch among those of an image, (n_patches, n_features)."""
    numbers = np.arange(grid.coverage.size * grid.n_channels).reshape(1, *grid.image_size, grid.n_channels)
    return grid.extract(numbers, np.arange(grid.n_patches))
