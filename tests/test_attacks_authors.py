"""APGD beside the authors' own program: from the same start the same images fall."""

import numpy as np
import pytest
import torch
from attacks_helpers import digits
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from skrobust import as_module
from skrobust.attacks import APGD, GradientModel

EPS, N_ITER = 0.1, 60
MODELS = {
    "MLP": MLPClassifier((60,), max_iter=150, random_state=0),
    # Votes of pairs: losses that are nearly constant between jumps.
    "SVC": make_pipeline(PCA(20, random_state=0), SVC(C=3)),
}


def by_the_authors(module, x, y, start, loss):
    """Which images their program breaks in one run from `start`."""
    program = pytest.importorskip("pyautoattack.autopgd_base")
    params = {"eps": EPS, "n_iter": N_ITER, "seed": 0}
    if loss == "targeted_dlr":
        run = program.APGDAttack_targeted(module, **params)
        run.y_target = module(x).argsort(dim=1)[:, -2]
    else:
        run = program.APGDAttack(module, loss={"cross_entropy": "ce"}.get(loss, loss), **params)
    run.init_hyperparam(x)
    return ~run.attack_single_run(x, y, x_init=start)[1]


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr", "targeted_dlr"])
@pytest.mark.parametrize("name", MODELS)
def test_apgd_breaks_the_same_images_as_the_authors_program(name, loss, monkeypatch):
    X, y, X_test, y_test = digits()
    X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    model = MODELS[name].fit(X, y)
    right = model.predict(X_test) == y_test
    X, y = X_test[right][:80].astype(np.float64), y_test[right][:80]
    iterates, gradients = [], GradientModel.gradients
    monkeypatch.setattr(
        GradientModel, "gradients", lambda self, x, *args: iterates.append(x.clone()) or gradients(self, x, *args)
    )
    attack = APGD(EPS, n_iter=N_ITER, loss=loss, n_targets=1, random_state=0)
    ours = model.predict(attack.perturb(model, X, y)) != y
    start = iterates[0]
    assert len(start) == len(X)
    assert float((start - torch.tensor(X)).abs().max()) > 0.9 * EPS
    module = as_module(model, dtype="float64")
    theirs = by_the_authors(
        lambda x: module(x.double()).float(), torch.tensor(X).float(), torch.tensor(y), start.float(), loss
    )
    assert ours.any()
    assert not ours.all()
    # They work in float32: a loss that barely rose may have fallen there.
    assert np.sum(ours != theirs.numpy()) <= 1
