"""Smallest differences between the score of the true class and that of each other class."""

from dataclasses import dataclass

import numpy as np

from skrobust.signals.arrays import label_indices


@dataclass(frozen=True)
class OtherClasses:
    """The pairs of classes that decide whether predictions change.

    Attributes
    ----------
    head : LinearHead
    true : ndarray of int of shape (n_samples,)
        Indices of the true classes; -1 for labels unknown to the model.
    """

    head: object
    true: np.ndarray

    def __getitem__(self, index):
        return OtherClasses(self.head, self.true[index])

    def groups(self):
        """For each true class: its samples, and weights and offsets of the score differences to all classes."""
        for label in range(len(self.head.classes)):
            index = np.flatnonzero(self.true == label)
            if len(index):
                yield label, index, self.head.coef[label] - self.head.coef, self._offset(label)

    def weights(self):
        """Weights (n_samples, n_classes, n_inputs) and offsets (n_samples, n_classes) of all score differences."""
        true = np.maximum(self.true, 0)
        coef, intercept = self.head.coef, self.head.intercept
        return coef[true][:, None] - coef, intercept[true][:, None] - intercept

    def margins(self, centre, fall=None, rise=None):
        """Score differences, or their minima if each input may decrease and increase by `fall` and `rise`.

        The column of the true class is infinite, the row of an unknown label minus infinite.

        Parameters
        ----------
        centre : ndarray of shape (n_samples, n_inputs)
        fall, rise : ndarray of that shape or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        result = np.full((len(self.true), len(self.head.classes)), -np.inf)
        for label, index, weights, offset in self.groups():
            differences = centre[index] @ weights.T + offset
            if fall is not None:
                differences -= fall[index] @ np.maximum(weights, 0).T + rise[index] @ np.maximum(-weights, 0).T
            differences[:, label] = np.inf
            result[index] = differences
        return result

    def errors(self, size, dtype):
        """Bound on the rounding of the differences, of shape (n_samples, n_classes); `size` as for `LinearHead`."""
        errors = np.broadcast_to(self.head.error(size, dtype), (len(self.true), len(self.head.classes)))
        return errors + np.take_along_axis(errors, np.maximum(self.true, 0)[:, None], axis=1)

    def _offset(self, label):
        return self.head.intercept[label] - self.head.intercept


def other_classes(head, y):
    """The other classes of each label.

    Parameters
    ----------
    head : LinearHead
        The classifier.
    y : array-like of shape (n_samples,)
        True labels.

    Returns
    -------
    OtherClasses
    """
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(f"y must have shape (n_samples,), got {labels.shape}.")
    return OtherClasses(head, label_indices(labels, head.classes))
