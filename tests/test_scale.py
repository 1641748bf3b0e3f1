"""Results do not depend on the unit of the data: scaled by a power of two they are the same to the last digit."""

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from skrobust import ConvSparseCoder, PatchDictionaryDenoiser, PolarizingCoder, WaveletSparsifier
from skrobust.dictionaries import KSVD, MOD, ConvolutionalLearner, OnlineDictionaryLearning, initial_convolutional_atoms
from skrobust.operators import ConvolutionalOperator, LayeredDictionary
from skrobust.pursuits import (
    basis_pursuit,
    convolutional_basis_pursuit,
    convolutional_omp,
    convolutional_thresholding,
    deep_pursuit,
    layered_basis_pursuit,
    layered_thresholding,
    multilayer_pursuit,
    orthogonal_mp,
    orthogonal_mp_gram,
)
from skrobust.signals import data_exponent, scale_exponents, times_power

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

UNITS = st.one_of(
    st.tuples(st.just("float32"), st.integers(-100, 100)), st.tuples(st.just("float64"), st.integers(-500, 500))
)
"""dtype, and the exponent of a power of two: 1e-30 to 1e30 in float32, 1e-150 to 1e150 in float64."""


def with_gap(result):
    return result.codes, result.gap


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def check(run, dtype, k, *unitless, data=None):
    """``run(X, unit)`` yields pairs of an array and the power of the unit that it is in."""
    X = normal(*unitless).astype(dtype) if data is None else data.astype(dtype)
    plain, scaled = run(X, 1.0), run(np.ldexp(X, k), float(np.ldexp(1.0, k)))
    for (one, power), (other, _) in zip(plain, scaled, strict=True):
        np.testing.assert_array_equal(np.ldexp(one, power * k), other)


@pytest.mark.parametrize(
    ("learner", "settings_"),
    [
        (KSVD, {}),
        (KSVD, {"update": "exact", "residual_tol": 0.5}),
        (KSVD, {"coding": "l1", "alpha": 0.3, "positive_code": True}),
        (MOD, {"coding": "ols"}),
        (MOD, {"coding": "l1", "alpha": 0.3, "positive_dict": True}),
        (OnlineDictionaryLearning, {"batch_size": 32}),
        (OnlineDictionaryLearning, {"batch_size": 32, "coding": "l1", "alpha": 0.3}),
    ],
)
@settings(max_examples=6)
@given(unit=UNITS)
@example(unit=("float64", -524))
def test_patch_learners(learner, settings_, unit):
    def run(X, unit):
        scaled = {name: value * unit for name, value in settings_.items() if name in ("alpha", "residual_tol")}
        n = None if settings_.get("coding") == "l1" else 2
        fitted = learner(8, n_nonzero_coefs=n, max_iter=3, random_state=0, **{**settings_, **scaled}).fit(X)
        return [(fitted.components_, 0), (fitted.objective_, 2), (fitted.transform(X).toarray(), 1)]

    check(run, *unit, 120, 12)


@pytest.mark.parametrize("learner", [KSVD, MOD, OnlineDictionaryLearning])
def test_learners_in_decimal_units(learner):
    X, objectives = normal(400, 16), []
    for unit in 1, 1e10, 1e-14:
        fitted = learner(10, n_nonzero_coefs=2, random_state=0).fit((unit * X).astype("float32"))
        np.testing.assert_allclose(np.linalg.norm(fitted.components_, axis=1), 1, rtol=1e-5)
        objectives.append(fitted.objective_[-1] / unit**2)
    # Units round differently in float32; where atoms nearly tie, learning takes another path to a similar objective.
    np.testing.assert_allclose(objectives, objectives[0], rtol=0.05)


@pytest.mark.parametrize("learner", [KSVD, MOD, OnlineDictionaryLearning])
@pytest.mark.parametrize(("dtype", "unit"), [("float64", 1e-158), ("float64", 1e-310), ("float64", 1e300)])
def test_learners_at_the_limits_of_the_dtype(learner, dtype, unit):
    fitted = learner(10, n_nonzero_coefs=2, max_iter=5, random_state=0).fit((unit * normal(200, 16)).astype(dtype))
    np.testing.assert_allclose(np.linalg.norm(fitted.components_, axis=1), 1, rtol=1e-6)


def test_a_stream_whose_unit_changes():
    learner = OnlineDictionaryLearning(8, n_nonzero_coefs=2, batch_size=50, random_state=0)
    for i, unit in enumerate((1e-25, 1.0, 1e20, 0.0, 1e-20, 1e-20, 1e-20)):
        learner.partial_fit((unit * normal(400, 12, seed=i)).astype("float32"))
        np.testing.assert_allclose(np.linalg.norm(learner.components_, axis=1), 1, rtol=1e-5)
    assert np.isfinite(learner.objective_).all()
    plain, scaled = (OnlineDictionaryLearning(8, n_nonzero_coefs=2, batch_size=50, random_state=0) for _ in range(2))
    for i in range(3):
        X = normal(400, 12, seed=i).astype("float32")
        plain.partial_fit(X)
        scaled.partial_fit(np.ldexp(X, 80))
    np.testing.assert_array_equal(plain.components_, scaled.components_)


@settings(max_examples=10)
@given(unit=UNITS, selection=st.sampled_from(["omp", "ols"]), masked=st.booleans())
@example(unit=("float64", -600), selection="omp", masked=False)
def test_orthogonal_matching_pursuit(unit, selection, masked):
    atoms = normal(20, 12, seed=1)
    mask = normal(30, 12, seed=2) > -1 if masked else None

    def run(X, unit):
        result = orthogonal_mp(
            X, atoms, n_nonzero_coefs=5, tol=1.5 * unit, selection=selection, mask=mask, sparse_output=False,
            return_result=True,
        )  # fmt: skip
        return [(result.codes, 1), (result.objective, 2), (result.converged, 0)]

    check(run, *unit, 30, 12)

    def from_gram(X, unit):
        atoms_ = atoms.astype(X.dtype)
        correlations = X @ atoms_.T
        return [(orthogonal_mp_gram(atoms_ @ atoms_.T, correlations, n_nonzero_coefs=3).toarray(), 1)]

    check(from_gram, *unit, 30, 12)


@settings(max_examples=10)
@given(unit=UNITS, positive=st.booleans())
@example(unit=("float64", -520), positive=False)
def test_basis_pursuit(unit, positive):
    def run(X, unit):
        codes, gap = with_gap(
            basis_pursuit(
                X, normal(20, 12, seed=1), alpha=0.5 * unit, positive=positive, return_result=True, sparse_output=False
            )
        )
        return [(codes, 1), (gap, 2)]

    check(run, *unit, 30, 12)


def test_signals_of_many_sizes_in_one_batch():
    units = np.array([1e-30, 1.0, 1e25, 1e-12, 0.0])[:, None]
    X, atoms = (units * normal(5, 12)).astype("float32"), normal(20, 12, seed=1).astype("float32")
    together = orthogonal_mp(X, atoms, n_nonzero_coefs=3, tol=0.1 * units[:, 0], sparse_output=False)
    alone = [orthogonal_mp(X[i : i + 1], atoms, n_nonzero_coefs=3, tol=0.1 * units[i], sparse_output=False)[0]
             for i in range(5)]  # fmt: skip
    np.testing.assert_array_equal(together, alone)
    operator = ConvolutionalOperator(normal(3, 4, 1).astype("float32"), (12, 1))
    for solver in "descent", "fista", "admm":
        parameters = {"alpha": 1e-20, "solver": solver, "max_iter": 30}
        together = convolutional_basis_pursuit(X[..., None], operator, **parameters)
        for i in range(5):
            alone = convolutional_basis_pursuit(X[i : i + 1, :, None], operator, **parameters)
            size = np.abs(alone.codes).max()
            np.testing.assert_allclose(together.codes[i], alone.codes[0], rtol=1e-4, atol=1e-5 * size)
            np.testing.assert_allclose(together.objective[i], alone.objective[0], rtol=1e-6)


@pytest.mark.parametrize("solver", ["descent", "fista", "admm", "auto"])
@settings(max_examples=6)
@given(unit=UNITS, masked=st.booleans())
def test_convolutional_basis_pursuit(solver, unit, masked):
    operator = ConvolutionalOperator(normal(3, 3, 3, 2, seed=1).astype(unit[0]), (8, 7, 2))
    mask = normal(8, 7, seed=2) > -1 if masked else None

    def run(X, unit):
        result = convolutional_basis_pursuit(X, operator, 0.2 * unit, solver=solver, mask=mask, max_iter=40, tol=1e-6)
        return [(result.codes, 1), (result.gap, 2), (result.objective, 2), (result.n_iter, 0)]

    def codes_only(X, unit):
        return [pair if pair[1] < 2 else (pair[0] * 0, 0) for pair in run(X, unit)]

    check(run if abs(unit[1]) < 400 else codes_only, *unit, 2, 8, 7, 2)


@settings(max_examples=8)
@given(unit=UNITS)
def test_greedy_convolutional_pursuits(unit):
    operator = ConvolutionalOperator(normal(3, 3, 3, 1, seed=1).astype(unit[0]), (8, 7, 1))

    def run(X, unit):
        return [
            (convolutional_omp(X, operator, n_nonzero_coefs=8, tol=2.0 * unit), 1),
            (convolutional_thresholding(X, operator, 0.5 * unit, stripe_sparsity=4), 1),
        ]

    check(run, *unit, 2, 8, 7, 1)


@settings(max_examples=8)
@given(unit=UNITS)
def test_layered_pursuits(unit):
    dtype = unit[0]
    first = ConvolutionalOperator(normal(3, 2, 1, seed=1).astype(dtype), (9, 1), padding="valid")
    second = ConvolutionalOperator(normal(4, 3, 3, seed=2).astype(dtype), first.code_shape, padding="valid")
    layers = LayeredDictionary([first, second])

    def run(X, unit):
        pairs = [(codes, 1) for codes in layered_thresholding(X, layers, 0.1 * unit)]
        for pursuit, parameters in (
            (layered_basis_pursuit, {}),
            (layered_basis_pursuit, {"tol": 1e-3}),
            (deep_pursuit, {}),
            (deep_pursuit, {"tol": 1e-3}),
            (multilayer_pursuit, {}),
        ):
            result = pursuit(X, layers, 0.1 * unit, max_iter=15, return_result=True, **parameters)
            pairs += [(codes, 1) for codes in result.codes]
            pairs += [] if result.objective is None else [(result.objective, 2)]
        return pairs

    check(run, *unit, 3, 9, 1)


@settings(max_examples=8)
@given(unit=UNITS)
def test_front_ends(unit):
    def run(X, unit):
        pairs = []
        for front in (
            WaveletSparsifier("db2", n_nonzero_coefs=0.2, clip=(-unit, unit)),
            PatchDictionaryDenoiser(patch_size=3, dictionary="dct", n_nonzero_coefs=None, noise_std=0.2 * unit),
            PatchDictionaryDenoiser(16, patch_size=3, n_nonzero_coefs=2, random_state=0),
        ):
            pairs.append((front.fit(X).transform(X), 1))
        return pairs

    check(run, *unit, 4, 12, 12)


@settings(max_examples=8)
@given(unit=UNITS)
def test_coders(unit):
    def run(X, unit):
        polar = PolarizingCoder("learned", eps=0.1 * unit, n_components=4, kernel_size=3, random_state=0).fit(X)
        coder = ConvSparseCoder(
            4, kernel_size=3, alpha=0.3 * unit, n_epochs=2, random_state=0, image_shape=(10, 10)
        ).fit(X)
        return [
            (polar.transform(X), 0),
            (polar.thresholds_, 1),
            (coder.components_, 0),
            (coder.transform(X), 1),
        ]

    check(run, *unit, 6, 10, 10)


@settings(max_examples=6)
@given(unit=UNITS, online=st.booleans())
def test_convolutional_learning(unit, online):
    def run(X, unit):
        atoms = initial_convolutional_atoms(X, 3, (4,), random_state=0).astype(X.dtype)
        learner = ConvolutionalLearner(atoms, 0.3 * unit, random_state=0)
        objectives = []
        for _ in range(2):
            objectives.append((learner.pass_online(X, 2) if online else learner.epoch(X)).objective)
        return [(atoms, 0), (learner.components, 0), (np.array(objectives), 2)]

    check(run, *unit, 5, 30, 1)


def test_tiny_signals_keep_their_start():
    X = np.cumsum(normal(5, 200, 1), axis=1)
    for unit in 1e-12, 1e-170, 1e200:
        atoms = [initial_convolutional_atoms(s * X, 4, (16,), random_state=0) for s in (1.0, unit)]
        np.testing.assert_allclose(*atoms, rtol=0, atol=1e-12)


def test_exponents():
    X = np.array([[1.0, -3.0], [1e-30, 0], [0, 0], [np.nan, 1e30], [np.inf, 0]], dtype="float32")
    exponents = scale_exponents(X)
    assert exponents.tolist() == [0, -96, 0, 96, 0]
    assert data_exponent(X[:3]) == 0
    assert data_exponent(X[1:3]) == -96
    for values in X[1:2], float(X[1, 0]):
        assert 2.0**-16 < np.max(times_power(values, 96)) < 2.0**16
    torch = pytest.importorskip("torch")
    assert scale_exponents(torch.tensor(X)).tolist() == [0, -96, 0, 96, 0]
    tensor = torch.tensor(X[1:2])
    np.testing.assert_array_equal(times_power(times_power(tensor, 96), -96).numpy(), X[1:2])
    tiniest = torch.tensor([2.0**-149])
    assert float(times_power(tiniest, 160)) == 2.0**11


def test_nan_never_becomes_an_index():
    from skrobust.estimators.polar.kernels import count
    from skrobust.pursuits.greedy.omp.arrays import scaled
    from skrobust.pursuits.greedy.omp.atoms import UnitAtoms
    from skrobust.pursuits.greedy.omp.batches import Pursuit

    rng = np.random.default_rng(0)
    odd = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0])
    histogram = np.zeros((1, 8), dtype=np.int64)
    count(odd[:, None], np.ones(1), np.zeros(1, np.int64), 0.0, 4.0, False, histogram)
    assert histogram.sum() == len(odd)
    assert histogram[0, -1] == 2  # infinity and 1e308
    for dtype in "float32", "float64":
        with np.errstate(over="ignore"):
            atoms = UnitAtoms(rng.normal(size=(20, 8)).astype(dtype))
            atoms.columns[rng.random(atoms.columns.shape) < 0.1] = np.nan
            X = rng.choice(np.append(odd, rng.normal(size=20)), size=(50, 8)).astype(dtype)
        for selection in "omp", "ols":
            pursuit = Pursuit(
                50, 20, 8, X.dtype, n_nonzero_coefs=4, tol=1e-3, selection=selection, sparse_output=True,
                return_result=False,
            )  # fmt: skip
            for rows, _, _ in pursuit.codes(
                "pursue_signals", (X,), (atoms.columns, atoms.gram(), atoms.inv_norms), scaled
            ):
                assert ((rows.indices >= 0) & (rows.indices < 20)).all()
    wavelets = WaveletSparsifier("haar").fit(np.zeros((1, 16, 16)))
    wild = rng.choice(odd, size=(20, 16, 16, 1))
    for values in wild, wild.astype("float32"):
        with np.errstate(all="ignore"):
            assert wavelets.basis_.sparsify(values, [20]).shape == values.shape


@pytest.mark.parametrize("learner", [KSVD, MOD, OnlineDictionaryLearning])
def test_no_tolerance_means_all_passes(learner):
    # Signals that are atoms: the objective soon stands still.
    X = np.repeat(np.eye(6), 20, axis=0).astype("float32")
    fitted = learner(6, n_nonzero_coefs=1, init=np.eye(6), max_iter=40, tol=0, random_state=0).fit(X)
    assert fitted.n_iter_ == 40
    assert fitted.set_params(tol=1e-3).fit(X).n_iter_ < 40


@pytest.mark.parametrize("solver", ["descent", "fista", "admm"])
def test_no_tolerance_means_all_iterations(solver):
    operator = ConvolutionalOperator(np.eye(2).reshape(2, 2, 1), (6, 1), padding="circular", stride=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = convolutional_basis_pursuit(normal(2, 6, 1), operator, 0.1, solver=solver, tol=0, max_iter=60)
    assert (result.n_iter >= 60).all()
    layers = LayeredDictionary([operator])
    assert (deep_pursuit(normal(2, 6, 1), layers, 0.1, tol=0, max_iter=30, return_result=True).n_iter == 30).all()
