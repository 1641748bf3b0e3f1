"""Functions for both NumPy arrays and torch tensors, for algorithms written once for both."""

import numpy as np

from .tensors import is_tensor


def sample_sums(values):
    """Sum over each sample in double precision, in the type of `values`."""
    if is_tensor(values):
        return values.flatten(1).double().sum(1)
    return values.reshape(len(values), -1).sum(axis=1, dtype=np.float64)


def sample_largest(values):
    """Largest value of each sample, in the type of `values`."""
    flat = values.reshape(len(values), -1)
    return flat.amax(1) if is_tensor(flat) else flat.max(axis=1)


def last_axis_largest(values):
    """Largest value over the last axis."""
    return values.amax(-1) if is_tensor(values) else values.max(axis=-1)


def as_array(values):
    """Values as a float64 ndarray, detached from any graph."""
    if is_tensor(values):
        return values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def like(values, other):
    """Values as an array or tensor with the type, dtype and device of `other`."""
    if is_tensor(other):
        import torch

        return torch.as_tensor(values).to(other)
    return np.asarray(values, dtype=other.dtype)


def ones_like_samples(other):
    """1 for each sample of `other`, in its type and dtype."""
    return other.new_ones(len(other)) if is_tensor(other) else np.ones(len(other), dtype=other.dtype)


def zeros(other, shape):
    """Zeros of this shape, in the type and dtype of `other`."""
    return other.new_zeros(shape) if is_tensor(other) else np.zeros(shape, dtype=other.dtype)


def choose(condition, where_true, where_false):
    """Elementwise choice."""
    if is_tensor(where_true):
        return where_true.where(condition, where_false)
    return np.where(condition, where_true, where_false)


def by_sample(values, other):
    """One value for each sample, shaped to broadcast over `other`; a number is returned as it is."""
    if getattr(values, "ndim", 0) == 0:  # not np.ndim, which no exporter can trace
        return values
    return like(values, other).reshape(-1, *[1] * (other.ndim - 1))


def label_indices(labels, classes):
    """Index of each label in an array of `classes`; -1 for labels that are none of them."""
    index_of = {label: index for index, label in enumerate(classes.tolist())}
    return np.array([index_of.get(label, -1) for label in labels.tolist()], dtype=np.int64)


def row_index(rows, other):
    """An index or mask of samples in a type that can index `other`."""
    if not is_tensor(other):
        return rows
    import torch

    return torch.as_tensor(rows, device=other.device)
