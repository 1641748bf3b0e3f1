"""Checks whether a set is the published one, for files without published checksum."""

import numpy as np

from .errors import DatasetFileError
from .files import fingerprint

# No image set has more classes; a larger label is invalid, and counting up to it could exhaust memory.
_MOST_CLASSES = 1 << 16


def check_label_range(labels, where, n_classes=_MOST_CLASSES):
    """Raise an error for labels outside the classes."""
    if labels.min() < 0 or labels.max() >= n_classes:
        raise DatasetFileError(
            f"{where} has labels from {labels.min()} to {labels.max()}, but there are {n_classes} classes (0 to "
            f"{n_classes - 1}): it is damaged, or holds no labels of this set."
        )


def check_class_counts(image_set, split, labels, where):
    """Raise an error for labels that are not distributed as in the published set."""
    expected = image_set.class_counts[split]
    counts = np.bincount(labels, minlength=len(expected))
    if tuple(counts.tolist()) != tuple(expected):
        raise DatasetFileError(
            f"{where} is not the published {image_set.title} {split} set: it has {len(labels)} images, at most "
            f"{counts.max()} per class, instead of {sum(expected)} and {max(expected)}. Get the original from "
            f"{image_set.homepage}, or pass verify=False to accept another set in this format."
        )


def check_fingerprint(image_set, split, pixels, labels, where):
    """False if no fingerprint is known, True if it matches; raises an error otherwise."""
    published = image_set.fingerprints.get(split)
    if published is None:
        return False
    if fingerprint(pixels, labels) != published:
        raise DatasetFileError(
            f"{where} does not hold the published images and labels of the {image_set.title} {split} set (their "
            f"SHA-256 differ): it is damaged or another set. Get the original from {image_set.homepage}, or pass "
            "verify=False to accept it."
        )
    return True
