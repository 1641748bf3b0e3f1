"""Orthogonal matching pursuit of NumPy arrays, by kernels."""

import numpy as np
from sklearn.utils import assert_all_finite, check_array

from skrobust.signals import kernel_threads, scale_exponents, times_power

from .atoms import UnitAtoms
from .batches import Pursuit

DTYPES = (np.float64, np.float32)

GRAM_WITH_MASK = "gram cannot be used with mask: with missing samples each signal has its own Gram matrix."


def orthogonal_mp_of_arrays(X, components, *, gram, mask, n_jobs, **settings):
    """`orthogonal_mp` of an array `X`."""
    X, components, gram, mask = _checked(X, components, gram, mask)


    def refuse():
        assert_all_finite(X if mask is None else np.where(mask, X, 0), input_name="X")
        raise ValueError(f"Values of X are too large for inner products in {X.dtype}: scale X down.")

    pursuit = Pursuit(len(X), *components.shape, X.dtype, **settings)
    with kernel_threads(n_jobs):
        atoms = UnitAtoms(components)
        if mask is not None:
            shared = (atoms.columns, np.square(atoms.columns), atoms.inv_norms)
            return pursuit.run("pursue_masked", (X, mask), shared, _scaled_masked, refuse)
        uses_gram = gram is not None or atoms.affords_gram(len(X) * pursuit.max_atoms)
        products = atoms.gram(gram) if uses_gram else np.zeros(0, X.dtype)
        return pursuit.run("pursue_signals", (X,), (atoms.columns, products, atoms.inv_norms), scaled, refuse)


def scaled(X):
    """Exponents of powers of two near the size of the signals, and the signals divided by these powers."""
    exponents = scale_exponents(X)
    return exponents, (times_power(X, -exponents),)


def _scaled_masked(X, mask):
    exponents, (X,) = scaled(np.where(mask, X, 0))
    return exponents, (X, mask)


def _checked(X, components, gram, mask):
    """Check the arrays of `orthogonal_mp`; the kernels check whether X is finite."""
    X, components = checked_signals(X, components)
    if gram is not None:
        if mask is not None:
            raise ValueError(GRAM_WITH_MASK)
        gram = checked_gram(gram, len(components), X.dtype)
    if mask is None:
        return X, components, gram, None
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise ValueError(f"mask must be boolean, True where a sample is present; got dtype {mask.dtype}.")
    if mask.shape == X.shape:
        return X, components, gram, np.ascontiguousarray(mask)
    if mask.shape != X.shape[1:]:
        raise ValueError(
            f"mask has shape {mask.shape}; that of X, {X.shape}, or of one signal, {X.shape[1:]}, is needed."
        )
    if not mask.any():
        raise ValueError("mask hides all features.")
    return np.ascontiguousarray(X[:, mask]), components[:, mask], gram, None


def checked_signals(X, components):
    """Check both arrays; the kernels check whether X is finite."""
    X = check_array(X, dtype=DTYPES, order="C", ensure_all_finite=False, input_name="X")
    components = check_array(components, dtype=X.dtype, input_name="components")
    if components.shape[1] != X.shape[1]:
        raise ValueError(
            f"X has {X.shape[1]} features, but components has {components.shape[1]}: its rows must be atoms of "
            f"{X.shape[1]} features."
        )
    return X, components


def checked_gram(gram, n_atoms, dtype):
    gram = check_array(gram, dtype=dtype, input_name="gram")
    if gram.shape != (n_atoms, n_atoms):
        raise ValueError(f"gram has shape {gram.shape}; the inner products of {n_atoms} atoms have {(n_atoms,) * 2}.")
    return gram
