"""The dictionary updates of K-SVD: one sweep over the atoms and their coefficients."""

import numpy as np

from .columns import AtomColumns, residuals
from .ksvd_kernels import sweep

_ALTERNATIONS, _ATOM_TOL = 100, 1e-6
"""Maximum number of rounds of an exact update with constraints, and change of the atom at which it stops."""


def approximate_update(X, codes, components, *, alpha, positive_code, positive_dict):
    """One step of alternating minimisation for each atom in turn; overwrites the values of `codes`, and `components`.

    `alpha` is the weight of the l1 norm of the codes, 0 for fixed supports. Returns the squared norms of the residuals
    of the new atoms and codes, one a signal.
    """
    columns = AtomColumns(codes)
    differences, _ = residuals(X, codes, components)
    values = codes.data[columns.entries]
    alpha = X.dtype.type(alpha)
    sweep(differences, components, columns.starts, columns.signals, values, alpha, positive_code, positive_dict)
    codes.data[columns.entries] = values
    return np.einsum("ij,ij->i", differences, differences).astype(np.float64)


def exact_update(X, codes, components, *, alpha, positive_code, positive_dict):
    """For each atom in turn, the best rank-one approximation of the residual of the others.

    Parameters and result are those of `approximate_update`.
    """
    columns = AtomColumns(codes)
    differences, _ = residuals(X, codes, components)
    constrained = alpha > 0 or positive_code or positive_dict
    for j in range(len(components)):
        users = slice(columns.starts[j], columns.starts[j + 1])
        if users.start == users.stop:
            continue
        signals, entries = columns.signals[users], columns.entries[users]
        values = codes.data[entries]
        errors = differences[signals] + np.outer(values, components[j])
        if constrained:
            atom, values = _alternate(errors, values, components[j], alpha, positive_code, positive_dict)
        else:
            atom, values = _leading_pair(errors, components[j])
        components[j], codes.data[entries] = atom, values
        differences[signals] = errors - np.outer(values, atom)
    return np.einsum("ij,ij->i", differences, differences).astype(np.float64)


def _leading_pair(errors, atom):
    """Leading right singular vector, with the sign of `atom`, and the left one times its singular value."""
    if not errors.any():
        return atom, np.zeros(len(errors), errors.dtype)
    if len(errors) < errors.shape[1]:
        best = np.linalg.svd(errors, full_matrices=False)[2][0]
    else:
        best = np.linalg.eigh(errors.T @ errors)[1][:, -1]
    best = best if best @ atom >= 0 else -best
    return best, errors @ best


def _alternate(errors, values, atom, alpha, positive_code, positive_dict):
    for _ in range(_ALTERNATIONS):
        best = values @ errors
        best = np.maximum(best, 0) if positive_dict else best
        norm = np.linalg.norm(best)
        if not norm > 0:
            break
        best = best / norm
        fit = errors @ best
        shrunk = np.maximum(np.abs(fit) - alpha, 0)
        values = np.where(fit > 0, shrunk, 0 if positive_code else -shrunk).astype(errors.dtype)
        change = np.abs(best - atom).max()
        atom = best
        if change < _ATOM_TOL:
            break
    return atom, values
