"""Learning with codes of least l1 norm."""

import numpy as np
import pytest

from skrobust.dictionaries import KSVD, MOD, OnlineDictionaryLearning
from skrobust.pursuits import basis_pursuit

LEARNERS = [KSVD, MOD, OnlineDictionaryLearning]
ALPHA = 0.2


def signals(n=300, d=12):
    rng = np.random.default_rng(0)
    atoms = rng.standard_normal((20, d))
    codes = rng.standard_normal((n, 20)) * (rng.random((n, 20)) < 0.12)
    return codes @ (atoms / np.linalg.norm(atoms, axis=1, keepdims=True)) + 0.05 * rng.standard_normal((n, d))


@pytest.mark.parametrize("Learner", LEARNERS)
@pytest.mark.parametrize("positive_code, positive_dict", [(False, False), (True, False), (True, True)])
def test_codes_of_least_norm(Learner, positive_code, positive_dict):
    X = np.abs(signals()) if positive_dict else signals()
    params = {"positive_code": positive_code, "positive_dict": positive_dict}
    learner = Learner(20, coding="l1", alpha=ALPHA, random_state=0, max_iter=15, **params).fit(X)
    assert learner.objective_[-1] < learner.objective_[0]
    np.testing.assert_allclose(np.linalg.norm(learner.components_, axis=1), 1)
    codes = learner.transform(X)
    expected = basis_pursuit(X, learner.components_, alpha=ALPHA, positive=positive_code)
    np.testing.assert_array_equal(codes.toarray(), expected.toarray())
    if positive_code:
        assert codes.data.min() >= 0
    if positive_dict:
        assert learner.components_.min() >= 0


@pytest.mark.parametrize("learner", [KSVD(), KSVD(update="exact"), MOD()], ids=["approximate", "exact", "MOD"])
def test_the_objective_falls_from_pass_to_pass(learner):
    """Codes are the best for the atoms, atoms no worse for the codes than before; idle atoms are the exception."""
    X = signals()
    learner.set_params(coding="l1", alpha=ALPHA, init=X[:20], max_iter=20, tol=0).fit(X)
    assert np.diff(learner.objective_).max() <= 1e-4 * learner.objective_[0]  # codes come with a gap of 1e-4
    assert learner.objective_[-1] < 0.9 * learner.objective_[0]


def test_recorded_objective_includes_the_penalty():
    X = signals()
    init = X[:20] / np.linalg.norm(X[:20], axis=1, keepdims=True)
    learner = OnlineDictionaryLearning(coding="l1", alpha=ALPHA, init=init, batch_size=len(X), max_iter=1).fit(X)
    codes = basis_pursuit(X, init, alpha=ALPHA).toarray()
    objectives = 0.5 * np.square(X - codes @ init).sum(axis=1) + ALPHA * np.abs(codes).sum(axis=1)
    # Online, codes are as good as an update of the atoms needs: the record is a little above the minimum.
    assert objectives.mean() < learner.objective_[0] < 1.005 * objectives.mean()
