"""Interval rules of torch's layers."""

import math

import torch
from torch import nn
from torch.nn import functional

from skrobust.nn.image_network import ImageNetwork

from .propagation import propagate, register_interval


@register_interval(nn.Linear)
def linear(layer, spread):
    def magnitude(size, with_offset):
        offset = layer.bias.abs() if with_offset and layer.bias is not None else None
        return functional.linear(size, layer.weight.abs(), offset)

    return spread.affine(layer, magnitude, layer.in_features + 1)


@register_interval(nn.Conv2d)
def conv2d(layer, spread):
    if layer.padding_mode != "zeros":
        raise ValueError(f"padding_mode={layer.padding_mode!r} has no interval rule; use zero padding.")
    options = layer.stride, layer.padding, layer.dilation, layer.groups

    def magnitude(size, with_offset):
        offset = layer.bias.abs() if with_offset and layer.bias is not None else None
        return functional.conv2d(size, layer.weight.abs(), offset, *options)

    return spread.affine(layer, magnitude, layer.weight[0].numel() + 1)


@register_interval(nn.BatchNorm1d)
@register_interval(nn.BatchNorm2d)
def batch_norm(layer, spread):
    """In training mode the statistics are those of the images themselves (Shi et al. 2021)."""
    shape = (1, -1, *[1] * (spread.value.ndim - 2))
    if layer.training or layer.running_mean is None:
        others = [dim for dim in range(spread.value.ndim) if dim != 1]
        variance, mean = torch.var_mean(spread.value.float(), dim=others, correction=0)
        if layer.running_mean is not None:
            _update_statistics(layer, spread.value, mean.detach(), variance.detach())
    else:
        mean, variance = layer.running_mean, layer.running_var
    scale = torch.rsqrt(variance + layer.eps)
    offset = -mean * scale
    if layer.affine:
        offset = offset * layer.weight + layer.bias
        scale = scale * layer.weight
    sizes = (mean * scale).abs() + (0 if not layer.affine else layer.bias.abs())
    scale, offset, sizes = (part.reshape(shape) for part in (scale, offset, sizes))

    def magnitude(size, with_offset):
        return size * scale.abs() + (sizes if with_offset else 0)

    return spread.affine(lambda X: X * scale + offset, magnitude, 8)


@torch.no_grad()
def _update_statistics(layer, value, mean, variance):
    layer.num_batches_tracked += 1
    weight = layer.momentum if layer.momentum is not None else 1 / float(layer.num_batches_tracked)
    n = value.numel() / value.shape[1]
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), weight)
    layer.running_var.lerp_((variance * n / max(n - 1, 1)).to(layer.running_var.dtype), weight)


@register_interval(nn.ReLU)
def relu(layer, spread):
    return spread.monotone(torch.relu)


@register_interval(nn.LeakyReLU)
def leaky_relu(layer, spread):
    if layer.negative_slope < 0:
        raise ValueError(f"LeakyReLU(negative_slope={layer.negative_slope}) is not increasing: no interval rule.")
    return spread.monotone(lambda X: functional.leaky_relu(X, layer.negative_slope), n_operations=1)


@register_interval(nn.MaxPool2d)
def max_pool(layer, spread):
    if layer.return_indices:
        raise ValueError("MaxPool2d(return_indices=True) has no interval rule.")
    return spread.monotone(layer)


@register_interval(nn.AvgPool2d)
def average_pool(layer, spread):
    size = layer.kernel_size if isinstance(layer.kernel_size, tuple) else (layer.kernel_size,) * 2
    return spread.affine(layer, lambda size, with_offset: layer(size), math.prod(size) + 2)


@register_interval(nn.AdaptiveAvgPool2d)
def adaptive_average_pool(layer, spread):
    n_averaged = math.prod(spread.value.shape[-2:])
    return spread.affine(layer, lambda size, with_offset: layer(size), n_averaged + 2)


@register_interval(nn.Flatten)
def flatten(layer, spread):
    return spread.reshaped(layer)


@register_interval(nn.Identity)
def identity(layer, spread):
    return spread


@register_interval(nn.Dropout)
@register_interval(nn.Dropout2d)
def dropout(layer, spread):
    """The same entries are dropped from images and bounds."""
    if not layer.training or layer.p == 0:
        return spread
    kept = layer(torch.ones_like(spread.value))
    return spread.reshaped(lambda X: X * kept)


@register_interval(ImageNetwork)
def normalized(network, spread):
    return propagate(network.network, normalize(network, spread))


def normalize(network, spread):
    """The spread behind the normalisation of an `ImageNetwork`."""
    zero = torch.zeros_like(spread.value[:1])
    offset = network.normalized(zero).abs()

    def magnitude(size, with_offset):
        # mean and std may have one value per channel, the last axis in front of the normalisation
        scaled = network.normalized(size + network.mean)
        return scaled + offset if with_offset else scaled

    return spread.affine(network.normalized, magnitude, 3)
