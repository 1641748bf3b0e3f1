"""Pursuits inside attacks start from the codes of the last pass; what counts as broken is judged from the start."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skrobust import ConvSparseCoder, LayeredBasisPursuit
from skrobust.attacks import APGD, DDN, FMN, PGD, GradientModel
from skrobust.bridge import recall
from skrobust.bridge.recall import Recall, recalled_pursuit

CODERS = {
    "ConvSparseCoder": ConvSparseCoder(8, kernel_size=3, alpha=0.1, image_shape=(8, 8), n_epochs=2, random_state=0),
    "LayeredBasisPursuit": LayeredBasisPursuit(
        (8, 8), kernel_size=3, alpha=0.05, image_shape=(8, 8), n_epochs=1, tol=1e-4, max_iter=500, random_state=0
    ),
}


@pytest.fixture(scope="module", params=CODERS)
def attacked(request):
    """A model behind a coder, 40 images that it classifies correctly, and their labels."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    model = make_pipeline(CODERS[request.param], LogisticRegression(max_iter=500)).fit(X[:300], y[:300])
    right = 300 + np.flatnonzero(model.predict(X[300:420]) == y[300:420])[:40]
    return model, X[right], y[right]


def cold(monkeypatch):
    """Attacks whose pursuits recall nothing."""
    monkeypatch.setattr(Recall, "beginning", lambda self: nullcontext())


class _Watched(PGD):
    """PGD that keeps its searches."""

    def search_batch(self, model, search):
        super().search_batch(model, search)
        vars(self).setdefault("searches", []).append(search)


def test_pursuits_start_from_the_nearest_remembered_image():
    starts = []

    def solve(init, tol):
        starts.append((init, tol))
        return 10 * images if init is None else init + 1

    memory, images = Recall(), torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    with memory.continuing():  # nothing remembered yet
        recalled_pursuit("coder", images, solve, 1e-6)
    assert not memory
    with memory.beginning():
        recalled_pursuit("coder", images, solve, 1e-6)
    assert memory
    images = torch.tensor([[5.0, 4.5], [0.1, 0.1]])
    with memory.continuing():
        recalled_pursuit("coder", images, solve, 1e-6)
        recalled_pursuit("coder", images, solve, 1e-2)
        recalled_pursuit("other", images, solve, 1e-6)
    recalled_pursuit("coder", images, solve, 1e-6)
    inits, tols = zip(*starts, strict=True)
    assert [init is None for init in inits] == [True, True, False, False, True, True]
    torch.testing.assert_close(inits[2], torch.tensor([[50.0, 50.0], [0.0, 0.0]]))
    torch.testing.assert_close(inits[3], torch.tensor([[51.0, 51.0], [1.0, 1.0]]))
    assert tols == (1e-6, 1e-6, recall.ATTACK_TOL, 1e-2, 1e-6, 1e-6)


def test_of_several_signals_of_one_image_the_last_is_remembered():
    memory = Recall()
    with memory.beginning():
        recalled_pursuit(0, torch.zeros(1, 1), lambda init, tol: torch.zeros(1, 1), 0)
    with memory.continuing():
        recalled_pursuit(0, torch.ones(3, 1), lambda init, tol: torch.tensor([[1.0], [2.0], [3.0]]), 0)
        recalled = recalled_pursuit(0, torch.ones(1, 1), lambda init, tol: init, 0)
    assert recalled.item() == 3


def test_exact_scores_do_not_depend_on_earlier_passes(attacked):
    model, X, _ = attacked
    x = torch.tensor(X)
    near = (x + 0.02).clamp_max(1)
    used = GradientModel(model, "exact", x)
    assert not used.is_rough
    start = used.start(x)
    assert used.is_rough
    rough = used.scores(near)
    fresh = GradientModel(model, "exact", x).scores
    assert torch.equal(start, fresh(x)) and torch.equal(used.exact_scores(near), fresh(near))
    assert not torch.equal(rough, fresh(near))
    torch.testing.assert_close(rough, fresh(near), atol=0.2, rtol=0.05)


@pytest.mark.parametrize("attack_tol", [1e-3, 0.3])
def test_what_counts_as_broken_is_broken(attacked, attack_tol, monkeypatch):
    """With the larger tolerance rough scores are far off."""
    monkeypatch.setattr(recall, "ATTACK_TOL", attack_tol)
    model, X, y = attacked
    attack = _Watched(0.1, n_iter=5, gradient="worst", random_state=0)
    broken = model.predict(attack.perturb(model, X, y)) != y
    assert broken.any()
    assert np.array_equal(broken, (attack.searches[-1].margin > 0).numpy())


def test_no_result_is_less_harmful_than_the_image(attacked, monkeypatch):
    monkeypatch.setattr(recall, "ATTACK_TOL", 0.5)
    model, X, y = attacked
    X_adv = PGD(0.01, n_iter=3, random_state=0).perturb(model, X, y)

    def margins(X):
        scores, own = model.decision_function(X), np.arange(len(y))
        scores[own, y], of_label = -np.inf, scores[own, y]
        return scores.max(axis=1) - of_label

    assert (margins(X_adv) >= margins(X) - 1e-9).all()


@pytest.mark.parametrize("make", [lambda: PGD(0.06, n_iter=10, gradient="worst"), lambda: APGD(0.06, n_iter=15)])
def test_survivors_with_and_without_recalled_codes(attacked, make, monkeypatch):
    model, X, y = attacked
    warm = model.predict(make().set_params(random_state=0).perturb(model, X, y)) == y
    again = model.predict(make().set_params(random_state=0, batch_size=7).perturb(model, X, y)) == y
    cold(monkeypatch)
    without = model.predict(make().set_params(random_state=0).perturb(model, X, y)) == y
    assert 0 < without.sum() < len(y)
    assert np.array_equal(warm, again)
    assert (warm != without).sum() <= 2


def test_recalled_codes_make_attacks_reproducible(attacked):
    model, X, y = attacked
    attack = PGD(0.05, n_iter=4, gradient="worst", random_state=0)
    assert np.array_equal(attack.perturb(model, X, y), attack.perturb(model, X, y))


@pytest.mark.parametrize("attack", [DDN(n_iter=20), FMN(norm="linf", n_iter=20)])
def test_nearest_images_are_adversarial(attacked, attack):
    model, X, y = attacked
    X_adv = attack.perturb(model, X[:10], y[:10])
    moved = (X_adv != X[:10]).any(axis=1)
    assert moved.sum() >= 8
    assert (model.predict(X_adv[moved]) != y[:10][moved]).all()


def test_equal_backward_passes_run_once(monkeypatch):
    """The derivative of a basis pursuit is that of least squares on its support."""
    X, y = load_digits(return_X_y=True)
    X = X[:120] / 16
    model = make_pipeline(CODERS["ConvSparseCoder"], LogisticRegression(max_iter=500)).fit(X, y[:120])
    plain, calls = GradientModel.gradients, []

    def counted(self, x, *args):
        calls.append(self.gradient_mode)
        return plain(self, x, *args)

    monkeypatch.setattr(GradientModel, "gradients", counted)
    PGD(1e-4, n_iter=3, gradient="worst", random_state=0).perturb(model, X[:5], y[:5])
    assert calls[:4] == ["exact", "identity", "projection", "smooth"]  # the probes
    assert {mode: calls[4:].count(mode) for mode in set(calls)} == {
        "exact": 3, "identity": 3, "projection": 0, "smooth": 3
    }  # fmt: skip
