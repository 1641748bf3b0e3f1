"""The learners as estimators: recovery, edge cases, dtypes, layouts, interruption."""

import warnings

import numpy as np
import pytest
import scipy.fft
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

from skrobust.dictionaries import KSVD, MOD, OnlineDictionaryLearning
from skrobust.dictionaries.patch import learner as learner_module
from skrobust.dictionaries.patch.initial import cosine_atoms, unit_rows
from skrobust.dictionaries.patch.ksvd_updates import approximate_update
from skrobust.dictionaries.patch.online_steps import MinibatchSteps
from skrobust.pursuits import orthogonal_mp
from skrobust.signals import SignalLayout

LEARNERS = [KSVD, MOD, OnlineDictionaryLearning]
each_learner = pytest.mark.parametrize("Learner", LEARNERS)


@parametrize_with_checks([Learner(max_iter=5) for Learner in LEARNERS])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def signals(seed=0, n=400, d=12, m=20, k=2, noise=0.05, dtype=np.float64):
    rng = np.random.default_rng(seed)
    atoms = rng.standard_normal((m, d))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = np.zeros((n, m))
    for row in codes:
        row[rng.choice(m, k, replace=False)] = rng.standard_normal(k)
    return (codes @ atoms + noise * rng.standard_normal((n, d))).astype(dtype)


def recovered(atoms, components):
    """The share of the true atoms that one of the components is, up to sign: correlation of 0.99 at least."""
    return np.mean(np.abs(atoms @ components.T).max(axis=1) >= 0.99)


def planted(seed):
    """The experiment of the K-SVD paper: 1500 signals of 20 features, three of 50 atoms each, 20 dB."""
    rng = np.random.default_rng(seed)
    atoms = rng.standard_normal((50, 20))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = np.zeros((1500, 50))
    for row in codes:
        row[rng.choice(50, 3, replace=False)] = rng.standard_normal(3)
    X = codes @ atoms
    noise = rng.standard_normal(X.shape)
    return X + noise * np.linalg.norm(X) / np.linalg.norm(noise) / 10, atoms


@pytest.mark.parametrize("update, least", [("exact", 0.95), ("approximate", 0.93)])
def test_planted_dictionary(update, least):
    shares = []
    for seed in range(8):
        X, atoms = planted(seed)
        learner = KSVD(50, n_nonzero_coefs=3, update=update, max_iter=80, tol=0, random_state=seed).fit(X)
        shares.append(recovered(atoms, learner.components_))
    assert np.mean(shares) >= least


def test_planted_dictionary_by_mod():
    X, atoms = planted(0)
    learner = MOD(50, n_nonzero_coefs=3, max_iter=80, tol=0, random_state=0).fit(X)
    assert recovered(atoms, learner.components_) >= 0.9


def test_planted_dictionary_from_a_stream():
    learner = OnlineDictionaryLearning(50, n_nonzero_coefs=3, batch_size=500, random_state=0)
    rng = np.random.default_rng(0)
    atoms = rng.standard_normal((50, 20))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    for _ in range(60):
        codes = np.zeros((1000, 50))
        np.put_along_axis(codes, rng.random(codes.shape).argsort(axis=1)[:, :3], rng.standard_normal((1000, 3)), 1)
        learner.partial_fit(codes @ atoms + 0.03 * rng.standard_normal((1000, 20)))
    assert recovered(atoms, learner.components_) >= 0.9
    assert learner.n_steps_ == 120


@each_learner
def test_attributes_after_fit(Learner):
    X = signals()
    learner = Learner(20, n_nonzero_coefs=2, random_state=0, max_iter=8).fit(X)
    assert learner.components_.shape == (20, 12)
    np.testing.assert_allclose(np.linalg.norm(learner.components_, axis=1), 1)
    assert learner.objective_.shape == (learner.n_iter_,)
    assert learner.n_iter_ <= 8
    assert learner.objective_[-1] < 0.6 * learner.objective_[0]
    codes = learner.transform(X)
    assert isinstance(codes, sparse.csr_array)
    assert codes.nnz <= 2 * len(X)
    np.testing.assert_array_equal(codes.toarray(), orthogonal_mp(X, learner.components_, n_nonzero_coefs=2).toarray())
    np.testing.assert_allclose(learner.inverse_transform(codes), codes.toarray() @ learner.components_)
    assert list(learner.get_feature_names_out()[:2]) == [f"{Learner.__name__.lower()}{i}" for i in range(2)]


@each_learner
def test_objective_per_iteration_is_the_objective(Learner):
    X = signals()
    learner = Learner(20, n_nonzero_coefs=2, random_state=0, max_iter=1, tol=0)
    if Learner is OnlineDictionaryLearning:  # measured with the atoms that coded the signals: the initial ones
        init = signals(1, n=20)
        learner.set_params(init=init, batch_size=len(X))
        codes = orthogonal_mp(X, init / np.linalg.norm(init, axis=1, keepdims=True), n_nonzero_coefs=2)
        residual = X - codes @ (init / np.linalg.norm(init, axis=1, keepdims=True))
        assert learner.fit(X).objective_[0] == pytest.approx(0.5 * np.square(residual).sum(axis=1).mean())
        return
    components = unit_rows(signals(1, n=20))
    codes = orthogonal_mp(X, components, n_nonzero_coefs=2)
    if Learner is KSVD:  # of updated atoms and coefficients
        approximate_update(X, codes, components, alpha=0.0, positive_code=False, positive_dict=False)
    else:
        components = np.linalg.lstsq(codes.toarray(), X)[0]
    learner.set_params(init=signals(1, n=20)).fit(X)
    assert learner.objective_[-1] == pytest.approx(0.5 * np.square(X - codes @ components).sum(axis=1).mean())


@pytest.mark.parametrize("coding", ["omp", "ols"])
@each_learner
def test_float32_stays_and_agrees(Learner, coding):
    X = signals()
    params = {"n_nonzero_coefs": 2, "coding": coding, "random_state": 0, "max_iter": 3, "init": signals(1, n=20)}
    single, double = Learner(**params).fit(X.astype(np.float32)), Learner(**params).fit(X)
    assert single.components_.dtype == single.transform(X.astype(np.float32)).dtype == np.float32
    assert double.components_.dtype == double.transform(X).dtype == np.float64
    # float32 may select another atom where two nearly tie, which changes the objective a little.
    np.testing.assert_allclose(single.objective_, double.objective_, rtol=1e-2)


@each_learner
def test_threads_change_nothing(Learner):
    X = signals(n=5000, dtype=np.float32)
    one, two = (Learner(30, n_nonzero_coefs=3, random_state=0, max_iter=3, n_jobs=n_jobs).fit(X) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one.components_, two.components_)
    np.testing.assert_array_equal(one.objective_, two.objective_)


@each_learner
def test_seeds(Learner):
    X = signals()
    learner = Learner(20, n_nonzero_coefs=2, max_iter=3)
    one, same, other = (clone(learner).set_params(random_state=seed).fit(X).components_ for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@each_learner
@pytest.mark.parametrize("init", ["data", "dct", "random"])
def test_initial_dictionaries(Learner, init):
    X = signals(d=16)
    learner = Learner(24, init=init, image_shape=(4, 4), n_nonzero_coefs=2, random_state=0, max_iter=4).fit(X)
    np.testing.assert_allclose(np.linalg.norm(learner.components_, axis=1), 1)
    assert learner.objective_[-1] < learner.objective_[0]


def test_complete_cosine_atoms_are_the_transform():
    atoms = cosine_atoms(64, SignalLayout((8, 8)))
    np.testing.assert_allclose(atoms @ atoms.T, np.eye(64), atol=1e-12)
    spectra = np.abs(scipy.fft.dctn(atoms.reshape(64, 8, 8), axes=(1, 2), norm="ortho")).reshape(64, 64)
    np.testing.assert_allclose(np.sort(spectra, axis=1)[:, -1], 1)
    np.testing.assert_array_equal(np.sort(spectra.argmax(axis=1)), np.arange(64))


@pytest.mark.parametrize("grid, n_channels, n", [((8, 8), 1, 256), ((5, 7), 3, 200), ((9,), 1, 30), ((1, 6), 1, 20)])
def test_overcomplete_cosine_atoms(grid, n_channels, n):
    atoms = cosine_atoms(n, SignalLayout(grid, n_channels))
    np.testing.assert_allclose(np.linalg.norm(atoms, axis=1), 1)
    assert np.ptp(atoms[0]) < 1e-12
    np.testing.assert_allclose(atoms[1:].sum(axis=1), 0, atol=1e-9)


@each_learner
def test_one_signal_zero_signals_few_signals_equal_signals(Learner):
    rng = np.random.default_rng(0)
    row = rng.standard_normal((1, 6))
    for X in (row, np.zeros((5, 6)), rng.standard_normal((4, 6)), np.repeat(row, 30, axis=0)):
        learner = Learner(9, n_nonzero_coefs=1, random_state=0, max_iter=4).fit(X)
        np.testing.assert_allclose(np.linalg.norm(learner.components_, axis=1), 1)
        assert np.isfinite(learner.objective_).all()
        np.testing.assert_allclose(learner.inverse_transform(learner.transform(X)), X, atol=1e-9)


@each_learner
def test_zero_signals_among_others(Learner):
    X = signals()
    X[::3] = 0
    learner = Learner(20, n_nonzero_coefs=2, random_state=0, max_iter=5).fit(X)
    assert learner.transform(X)[::3].nnz == 0


@each_learner
@pytest.mark.parametrize(
    "params, message",
    [
        ({"n_components": 3, "n_nonzero_coefs": 4}, "n_nonzero_coefs=4 is more than the 3 atoms"),
        ({"n_components": 30, "n_nonzero_coefs": 13}, "n_nonzero_coefs=13 is more than the 12 features"),
        ({"positive_code": True}, "positive_code=True needs coding='l1'"),
        ({"init": np.ones((3, 5))}, "init has atoms of 5 features, but X has 12"),
        ({"init": np.ones((3, 12)), "n_components": 4}, "init has 3 atoms, but n_components=4"),
        ({"init": np.zeros((3, 12))}, "init has atoms that are zero"),
        ({"init": -np.ones((3, 12)), "positive_dict": True}, "init has negative values"),
        ({"n_jobs": 0}, "n_jobs must be None or an integer other than 0"),
    ],
)
def test_refusals(Learner, params, message):
    learner = Learner(**params)
    with pytest.raises(ValueError, match=message):
        learner.fit(signals())
    assert not hasattr(learner, "components_")
    assert not hasattr(learner, "n_features_in_")


@each_learner
@pytest.mark.parametrize(
    "params", [{"coding": "lars"}, {"n_components": 0}, {"alpha": -1}, {"tol": -1}, {"init": "svd"}]
)
def test_invalid_parameters(Learner, params):
    with pytest.raises(InvalidParameterError, match=next(iter(params))):
        Learner(**params).fit(signals())


@each_learner
def test_unfitted_and_wrong_codes(Learner):
    with pytest.raises(NotFittedError):
        Learner().inverse_transform(np.zeros((2, 3)))
    learner = Learner(20, n_nonzero_coefs=2, max_iter=1).fit(signals())
    with pytest.raises(ValueError, match=r"codes must have shape \(n_signals, 20\), got \(2, 3\)"):
        learner.inverse_transform(np.zeros((2, 3)))


@each_learner
def test_images_and_dense_codes(Learner):
    X = signals(d=18).reshape(-1, 3, 3, 2)
    learner = Learner(20, n_nonzero_coefs=2, max_iter=3, random_state=0, sparse_output=False).fit(X)
    codes = learner.transform(X)
    assert isinstance(codes, np.ndarray)
    assert learner.inverse_transform(codes).shape == X.shape
    flat = clone(learner).fit(X.reshape(len(X), -1))
    np.testing.assert_array_equal(flat.components_, learner.components_)


@each_learner
def test_pandas_output(Learner):
    pandas = pytest.importorskip("pandas")
    X = signals()
    learner = Learner(20, n_nonzero_coefs=2, max_iter=2, sparse_output=False).set_output(transform="pandas")
    codes = learner.fit_transform(pandas.DataFrame(X, columns=[f"f{i}" for i in range(12)]))
    assert list(codes.columns) == list(learner.get_feature_names_out())


@each_learner
def test_tensors(Learner):
    X = signals()
    learner = Learner(20, n_nonzero_coefs=2, max_iter=3, random_state=0).fit(torch.as_tensor(X))
    np.testing.assert_array_equal(learner.components_, clone(learner).fit(X).components_)
    codes = learner.transform(torch.as_tensor(X))
    assert codes.is_sparse
    np.testing.assert_allclose(codes.to_dense().numpy(), learner.transform(X).toarray(), atol=1e-9)
    dense = learner.set_params(sparse_output=False).transform(torch.as_tensor(X))
    np.testing.assert_allclose(learner.inverse_transform(dense).numpy(), learner.inverse_transform(codes.to_dense()))


@each_learner
def test_positive_atoms(Learner):
    X = np.abs(signals())
    learner = Learner(20, n_nonzero_coefs=2, positive_dict=True, random_state=0, max_iter=5).fit(X)
    assert learner.components_.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(learner.components_, axis=1), 1)
    assert learner.objective_[-1] < learner.objective_[0]


@each_learner
def test_tolerance_of_the_residual(Learner):
    X = signals()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # some may not get there
        learner = Learner(20, residual_tol=0.3, random_state=0, max_iter=3).fit(X)
    codes = learner.transform(X)
    assert (np.linalg.norm(X - learner.inverse_transform(codes), axis=1) <= 0.3 + 1e-9).all()
    assert len(np.unique(np.diff(codes.indptr))) > 1


@each_learner
def test_stops_when_atoms_no_longer_change(Learner):
    X = np.repeat(np.eye(4), 30, axis=0)
    learner = Learner(4, n_nonzero_coefs=1, init=np.eye(4), max_iter=40).fit(X)
    assert learner.n_iter_ == 2


@each_learner
def test_warm_start_continues(Learner):
    X = signals()
    params = {"n_components": 20, "n_nonzero_coefs": 2, "random_state": 0, "tol": 0, "init": signals(1, n=20)}
    if Learner is OnlineDictionaryLearning:
        params["batch_size"] = 150
    whole = Learner(**params, max_iter=6).fit(X)
    parts = Learner(**params, max_iter=3, warm_start=True).fit(X)
    parts.fit(X)
    assert parts.n_iter_ == whole.n_iter_ == 6
    if Learner is OnlineDictionaryLearning:
        np.testing.assert_array_equal(parts.components_, whole.components_)
    else:  # the last pass of a fit puts no signal in place of an idle atom
        np.testing.assert_array_equal(parts.objective_[:3], whole.objective_[:3])
        assert parts.objective_[-1] < parts.objective_[2]
    with pytest.raises(ValueError, match="warm_start=True cannot continue from 20 atoms of 12 features"):
        parts.set_params(n_components=7).fit(X)


class Interrupter:
    """Learns as ever, but for the call at which the user presses Ctrl+C."""

    def __init__(self, monkeypatch, at):
        self.calls, self.at = 0, at
        for owner, name in ((learner_module, "encode"), (MinibatchSteps, "learn")):
            monkeypatch.setattr(owner, name, self.watched(getattr(owner, name)))

    def watched(self, function):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls == self.at:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return call


@each_learner
def test_interrupted_fit_leaves_the_estimator_as_it_was(Learner, monkeypatch):
    X = signals()
    fresh = Learner(20, n_nonzero_coefs=2, random_state=0, tol=0, max_iter=6)
    fitted = clone(fresh).fit(X)
    before = dict(vars(fitted))
    Interrupter(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(X)
    assert not [name for name in vars(fresh) if name.endswith("_")]
    Interrupter(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X[:, :10])
    assert vars(fitted).keys() == before.keys()
    assert all(vars(fitted)[name] is value for name, value in before.items())


@each_learner
def test_interrupted_fit_is_resumed(Learner, monkeypatch):
    X = signals()
    params = {"n_components": 20, "n_nonzero_coefs": 2, "random_state": 0, "tol": 0}
    if Learner is OnlineDictionaryLearning:
        params["batch_size"] = 150
    whole = Learner(**params, max_iter=6).fit(X)
    learner = Learner(**params, max_iter=6, warm_start=True)
    # Online, the fourth call begins in the middle of the third pass, behind eight minibatches.
    Interrupter(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        learner.fit(X)
    monkeypatch.undo()
    assert 1 <= learner.n_iter_ < 6
    learner.set_params(max_iter=6 - learner.n_iter_).fit(X)
    np.testing.assert_array_equal(learner.components_, whole.components_)
    np.testing.assert_array_equal(learner.objective_, whole.objective_)


def test_online_sums_are_those_of_the_recursion():
    X = signals(n=180)
    init = signals(1, n=20)
    learner = OnlineDictionaryLearning(init=init, n_nonzero_coefs=2, batch_size=30, forgetting=3)
    learner.partial_fit(X[:90]).partial_fit(X[90:])  # the second call continues the sums of the first
    D = init / np.linalg.norm(init, axis=1, keepdims=True)
    A, B = np.zeros((20, 20)), np.zeros((20, 12))
    for t in range(1, 7):
        batch = X[30 * (t - 1) : 30 * t]
        Z = orthogonal_mp(batch, D, n_nonzero_coefs=2).toarray()
        A, B = (1 - 1 / t) ** 3 * A + Z.T @ Z, (1 - 1 / t) ** 3 * B + Z.T @ batch
        for j in range(20):
            best = B[j] - A[j] @ D + A[j, j] * D[j]
            D[j] = best / np.linalg.norm(best) if A[j, j] > 0 else D[j]
    np.testing.assert_allclose(learner.components_, D, atol=1e-9)


def test_partial_fit_in_pieces_is_partial_fit():
    X = signals(n=400)
    whole, parts = (OnlineDictionaryLearning(init=signals(1, n=20), n_nonzero_coefs=2, batch_size=50) for _ in "ab")
    whole.partial_fit(X)
    for piece in np.split(X, 4):
        parts.partial_fit(piece)
    np.testing.assert_array_equal(whole.components_, parts.components_)
    assert (whole.n_steps_, whole.n_iter_, parts.n_steps_, parts.n_iter_) == (8, 1, 8, 4)
    with pytest.raises(ValueError, match="X has 5 features, but OnlineDictionaryLearning is expecting 12"):
        parts.partial_fit(X[:, :5])


def test_progress_bar(capsys):
    KSVD(20, n_nonzero_coefs=2, max_iter=3, tol=0, verbose=1).fit(signals())
    printed = capsys.readouterr().err
    assert "KSVD: 100%" in printed
    assert "objective" in printed
    KSVD(20, n_nonzero_coefs=2, max_iter=3).fit(signals())
    assert capsys.readouterr().err == ""
