"""Online learning in one piece: rough l1 codes, slices of minibatches, phases of kernels on several threads."""

import os
import subprocess
import sys

import numpy as np
import pytest

from skrobust.dictionaries import OnlineDictionaryLearning
from skrobust.dictionaries.patch import online_steps as _online_steps
from skrobust.dictionaries.patch.online_steps import L1_TOL, MinibatchSteps
from skrobust.kernels.phases import COUNTERS, finish_piece, take_piece, wait_for_pieces
from skrobust.kernels.threads import on_threads
from skrobust.kernels.vectors import kernel
from skrobust.pursuits import basis_pursuit, orthogonal_mp
from skrobust.pursuits.greedy.omp.atoms import aligned_zeros, gram_of, padded_width
from skrobust.pursuits.lasso.greedy_descent import descend_greedily


def problem(n=60, d=12, m=20, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    atoms = rng.standard_normal((m, d))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = rng.standard_normal((n, m)) * (rng.random((n, m)) < 0.15)
    return (codes @ atoms + 0.05 * rng.standard_normal((n, d))).astype(dtype), atoms.astype(dtype)


@kernel
def _greedy_codes(correlations, width, gram, alpha, positive, tol, max_steps, codes):
    for i in range(codes.shape[0]):
        touched = np.zeros(width, np.int64)
        descend_greedily(correlations, i * width, width, gram, alpha, positive, tol, max_steps, codes[i], touched)


def greedy_codes(X, atoms, alpha, *, positive=False, tol=1e-3, max_steps=100_000):
    m, width = len(atoms), padded_width(len(atoms), X.dtype)
    columns, correlations = aligned_zeros((X.shape[1], width), X.dtype), aligned_zeros((len(X), width), X.dtype)
    columns[:, :m], correlations[:, :m] = atoms.T, X @ atoms.T
    codes = np.zeros((len(X), width), X.dtype)
    _greedy_codes(correlations.reshape(-1), width, gram_of(columns, m), alpha, positive, tol, max_steps, codes)
    assert not codes[:, m:].any()
    return codes[:, :m]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("d, m", [(12, 20), (5, 3), (30, 70), (1, 1)])
def test_greedy_descent_ends_where_no_coefficient_moves(dtype, positive, d, m):
    X, atoms = problem(d=d, m=m, dtype=dtype)
    codes = greedy_codes(X, atoms, 0.1, positive=positive, tol=1e-3)
    v = codes + (X - codes @ atoms) @ atoms.T
    best = np.maximum(v - 0.1, 0) if positive else np.sign(v) * np.maximum(np.abs(v) - 0.1, 0)
    assert np.abs(best - codes).max() <= 1e-3 + 1e-5
    if not positive and dtype == np.float64 and m <= 20:
        precise = greedy_codes(X, atoms, 0.1, tol=1e-9)
        exact = basis_pursuit(X, atoms, alpha=0.1, tol=1e-12, max_iter=100_000).toarray()
        np.testing.assert_allclose(precise @ atoms, exact @ atoms, atol=1e-5)


def test_greedy_descent_stops_after_its_steps():
    X, atoms = problem()
    one = greedy_codes(X, atoms, 0.01, max_steps=1)
    assert (one != 0).sum(axis=1).max() == 1
    np.testing.assert_array_equal(np.abs(one).argmax(axis=1), np.abs(X @ atoms.T).argmax(axis=1))
    np.testing.assert_array_equal(greedy_codes(np.zeros_like(X), atoms, 0.01), 0)


def test_rough_codes_lead_to_as_good_atoms():
    X, _ = problem(n=3000, d=16, m=24)
    init = X[:24]
    rng = np.random.default_rng(0)
    passes = [X[rng.permutation(len(X))] for _ in range(8)]
    learner = OnlineDictionaryLearning(init=init, coding="l1", alpha=0.1, batch_size=200)
    for signals in passes:
        learner.partial_fit(signals)

    def objective(atoms):
        codes = basis_pursuit(X, atoms, alpha=0.1)
        return 0.5 * np.square(X - codes @ atoms).sum() + 0.1 * np.abs(codes.data).sum()

    exact = reference(passes, init, learner)
    assert objective(learner.components_) < 1.02 * objective(exact)
    assert L1_TOL == 0.1


def reference(passes, init, learner):
    """The recursion with certified codes, over the same minibatches; idle atoms stay."""
    D, t = init / np.linalg.norm(init, axis=1, keepdims=True), 0
    A, B = np.zeros((len(D), len(D))), np.zeros(D.shape)
    for X in passes:
        for start in range(0, len(X), learner.batch_size):
            batch = X[start : start + learner.batch_size]
            Z = basis_pursuit(batch, D, alpha=learner.alpha, tol=1e-3).toarray()
            memory = (t / (t + 1)) ** min(learner.forgetting, 5 + t / 16)
            A, B, t = memory * A + Z.T @ Z, memory * B + Z.T @ batch, t + 1
            for j in range(len(D)):
                best = B[j] - A[j] @ D + A[j, j] * D[j]
                D[j] = best / np.linalg.norm(best) if A[j, j] > 0 else D[j]
    return D


@pytest.mark.parametrize("coding", ["omp", "l1"])
def test_slices_of_a_minibatch_change_nothing(coding, monkeypatch):
    X, _ = problem(n=500)
    params = {"coding": coding, "random_state": 0, "batch_size": 130, "max_iter": 3}
    whole = OnlineDictionaryLearning(20, **params).fit(X)
    monkeypatch.setattr(_online_steps, "CODE_BYTES", 40 * 20 * 12)
    sliced = OnlineDictionaryLearning(20, **params).fit(X)
    np.testing.assert_allclose(sliced.components_, whole.components_, atol=1e-9)
    np.testing.assert_allclose(sliced.objective_, whole.objective_, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 15, 33, 64, 70])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_step_of_any_size(d, dtype):
    X, atoms = problem(n=90, d=d, m=37, dtype=dtype)
    k = min(3, d)
    steps = MinibatchSteps(
        X, 37, 50, coding="omp", n_nonzero_coefs=k, residual_tol=None, alpha=0.1, positive_code=False,
        positive_dict=False,
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(90)[:50]
    gram, products, uses = np.ones((37, 37)), np.ones((37, d)), np.ones(37)
    updated = atoms.copy()
    cost = steps.learn(order, [0.5], updated, gram, products, uses)
    Z = orthogonal_mp(X[order], atoms, n_nonzero_coefs=k).toarray()
    tol = 1e-13 if dtype == np.float64 else 2e-4  # rounding of sums over 50 signals, times 7 or more
    np.testing.assert_allclose(gram, 0.5 + Z.T @ Z, atol=tol)
    np.testing.assert_allclose(products, 0.5 + Z.T @ X[order], atol=tol)
    np.testing.assert_array_equal(uses, 0.5 + (Z != 0).sum(axis=0))
    energies = np.square(X[order] - Z @ atoms).sum(axis=1)
    np.testing.assert_allclose(steps.energies, energies, atol=tol)
    assert cost == pytest.approx(0.5 * energies.sum(), rel=10 * tol, abs=tol)
    np.testing.assert_allclose(np.linalg.norm(updated, axis=1), 1, atol=tol)


@pytest.mark.parametrize("coding", ["omp", "l1"])
def test_values_whose_squares_overflow(coding):
    X = problem(dtype=np.float32)[0]
    learner = OnlineDictionaryLearning(20, coding=coding, n_nonzero_coefs=2, init=X[:20])
    learner.fit(X * np.float32(1e25))
    assert np.isfinite(learner.objective_).all()
    np.testing.assert_allclose(np.linalg.norm(learner.components_, axis=1), 1, rtol=1e-5)


@kernel
def _chain(values, n_phases, n_pieces, counters):
    """Each piece of a phase needs all pieces of the one before."""
    for phase in range(n_phases):
        piece = take_piece(counters, phase)
        while piece < n_pieces:
            before = 1 if phase == 0 else values[phase - 1].sum()
            values[phase, piece] = before % 1_000_003
            finish_piece(counters, phase)
            piece = take_piece(counters, phase)
        wait_for_pieces(counters, phase, n_pieces)


def test_phases_wait_for_each_other():
    n_phases, n_pieces = 300, 7
    values = np.zeros((n_phases, n_pieces), np.int64)
    on_threads(_chain, values, n_phases, n_pieces, n_pieces=n_pieces, n_counters=COUNTERS * n_phases)
    expected = 1
    for phase in range(n_phases):
        np.testing.assert_array_equal(values[phase], expected)
        expected = n_pieces * expected % 1_000_003


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_threads_after_a_fork():
    code = """
import os, numpy as np
from skrobust.pursuits import orthogonal_mp
X, D = np.random.default_rng(0).standard_normal((3000, 8)), np.eye(8)
orthogonal_mp(X, D, n_nonzero_coefs=2, n_jobs=2)
child = os.fork()
if child == 0:
    orthogonal_mp(X, D, n_nonzero_coefs=2, n_jobs=2)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "7", done.stderr
