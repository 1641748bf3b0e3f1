"""Readers for local image sets."""

from .cifar import load_cifar10, load_cifar100
from .cifar_c import CORRUPTIONS, load_cifar10c
from .digits import load_digits_images
from .errors import DatasetFileError, DatasetNotFoundError
from .folders import image_folder_batches, load_image_folder
from .load import DATASETS, load_dataset
from .mnist import load_fashion_mnist, load_idx, load_mnist

__all__ = [
    "CORRUPTIONS",
    "DATASETS",
    "DatasetFileError",
    "DatasetNotFoundError",
    "image_folder_batches",
    "load_cifar10",
    "load_cifar100",
    "load_cifar10c",
    "load_dataset",
    "load_digits_images",
    "load_fashion_mnist",
    "load_idx",
    "load_image_folder",
    "load_mnist",
]
