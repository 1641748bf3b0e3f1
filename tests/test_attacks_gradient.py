"""Gradient attacks against truths on linear models, slow references, and each other."""

import numpy as np
import pytest
import torch
from attacks_helpers import binary_svm, defended, digits, logistic, margins, network, norm_of, predict
from scipy import optimize

from skrobust.attacks import (
    FGSM,
    PGD,
    IterativeFGSM,
    IterativeLocallyLinear,
    LocallyLinear,
    MomentumIterativeFGSM,
    SemiWhiteBox,
    WhiteBox,
)
from skrobust.attacks.core.losses import cross_entropy, dlr, margin, targeted_dlr

DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
norms = pytest.mark.parametrize("norm", DUAL)


def _still_right(model, X, y):
    right = model.predict(X) == y
    return X[right], y[right]


@norms
@pytest.mark.parametrize("attack", [FGSM(), PGD(random_state=0), IterativeLocallyLinear(), LocallyLinear()], ids=str)
def test_linear_models_lose_eps_times_the_dual_norm(attack, norm):
    """Without a box the optimum on a binary linear model is margin - eps ‖w‖*, for every image."""
    model, X, y = binary_svm()
    X, y = _still_right(model, X, y)
    size = np.linalg.norm(model.coef_.ravel(), ord=DUAL[norm])
    eps = 0.9 * -margins(model, X, y).max() / size  # no image is broken, so none stops early
    X_adv = attack.set_params(eps=eps, norm=norm, clip=None).perturb(model, X, y)
    iterated = isinstance(attack, PGD | IterativeLocallyLinear)
    slack = {"linf": 1e-9, "l2": 0.05, "l1": 0.15}[norm] * eps * size if iterated else 1e-9
    np.testing.assert_allclose(margins(model, X_adv, y), margins(model, X, y) + eps * size, atol=slack)


def test_radius_at_which_a_linear_model_is_broken():
    model, X, y = binary_svm()
    X, y = _still_right(model, X, y)
    for norm, dual in DUAL.items():
        radius = -margins(model, X, y) / np.linalg.norm(model.coef_.ravel(), ord=dual)
        for eps in np.quantile(radius, [0.2, 0.8]):
            fallen = model.predict(FGSM(eps=eps, norm=norm, clip=None).perturb(model, X, y)) != y
            clear = abs(radius - eps) > 1e-9
            np.testing.assert_array_equal(fallen[clear], (radius < eps)[clear])


@pytest.mark.parametrize("norm, eps", [("linf", 0.08), ("l1", 1.5)])
def test_worst_other_class_is_exact_on_linear_models_in_the_box(norm, eps):
    """The optimum over ball and box is one linear program for each other class."""
    model, X, y = logistic()
    X, y = _still_right(model, X, y)
    X, y = X[:12], y[:12]
    X_adv = LocallyLinear(eps=eps, norm=norm).perturb(model, X, y)
    for x, label, attained in zip(X, y, margins(model, X_adv, y), strict=True):
        best = -np.inf
        for other in set(range(10)) - {label}:
            w = model.coef_[other] - model.coef_[label]
            bounds = [(0, min(eps, 1 - v)) for v in x] + [(0, min(eps, v)) for v in x]
            budget = {"A_ub": np.ones((1, 128)), "b_ub": [eps]} if norm == "l1" else {}
            gain = -optimize.linprog(np.concatenate([-w, w]), bounds=bounds, **budget).fun
            best = max(best, w @ x + model.intercept_[other] - model.intercept_[label] + gain)
        assert attained == pytest.approx(best, abs=1e-8)


def test_strength_of_attacks_is_ordered_as_in_the_paper():
    net, X, y = network()
    clean = np.mean(predict(net, X) == y)

    def accuracy(attack):
        return np.mean(predict(net, attack.perturb(net, X, y)) == y)

    fast, local = accuracy(FGSM(eps=0.15)), accuracy(LocallyLinear(eps=0.15))
    iterated = accuracy(IterativeFGSM(eps=0.15, n_iter=40))
    momentum = accuracy(MomentumIterativeFGSM(eps=0.15, n_iter=40))
    restarts = accuracy(PGD(eps=0.15, n_restarts=5, random_state=0))
    iterated_local = accuracy(IterativeLocallyLinear(eps=0.15, n_iter=40))
    assert clean > 0.9
    assert local <= fast
    assert max(iterated, momentum, iterated_local) <= fast
    assert restarts <= min(iterated, momentum) + 0.01
    assert accuracy(PGD(eps=1.0, random_state=0)) <= 0.05, "the whole box leaves no image standing"


def test_locally_linear_attack_tries_the_nearest_classes_first():
    net, X, y = network()
    one, four, nine, every = (
        margins(net, IterativeLocallyLinear(eps=0.05, n_iter=5, n_targets=n).perturb(net, X, y), y)
        for n in (1, 4, 9, None)
    )
    # An attack stops at success: later margins are not comparable.
    assert (four[one <= 0] >= one[one <= 0]).all()
    assert (nine[four <= 0] >= four[four <= 0]).all()
    np.testing.assert_array_equal(nine, every)
    assert np.mean(one > 0) >= 0.8 * np.mean(every > 0)


def test_restarts_and_steps_only_help():
    net, X, y = network()
    seen = [
        margins(net, PGD(eps=0.05, n_iter=5, n_restarts=n, random_state=0).perturb(net, X, y), y) for n in (1, 3, 6)
    ]
    standing = [s <= 0 for s in seen]
    for few, many in zip(standing, standing[1:], strict=False):
        assert not np.any(many & ~few)
    still = standing[-1]
    assert np.all(seen[0][still] <= seen[1][still] + 1e-6) and np.all(seen[1][still] <= seen[2][still] + 1e-6)


def test_confident_models_are_attacked_as_well():
    """Scores of 1e6: the plain cross-entropy has a zero gradient everywhere."""
    net, X, y = network()
    loud = torch.nn.Sequential(net, _Scale(1e6)).eval()
    quiet = np.mean(predict(net, PGD(eps=0.15, random_state=0).perturb(net, X, y)) == y)
    with torch.no_grad():
        right = predict(loud, X) == y
        assert float(torch.nn.functional.cross_entropy(loud(torch.tensor(X[right])), torch.tensor(y[right]))) == 0
    assert np.mean(predict(loud, PGD(eps=0.15, random_state=0).perturb(loud, X, y)) == y) <= quiet + 0.01


class _Scale(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, scores):
        return self.factor * scores


def test_losses_against_their_formulas():
    rng = np.random.default_rng(0)
    scores = torch.tensor(rng.normal(size=(20, 5)), requires_grad=True)
    label = torch.tensor(rng.integers(0, 5, size=20))
    other = (label + 2) % 5
    z, y, i = scores.detach().numpy(), label.numpy(), other.numpy()
    rows = np.arange(20)
    ranked = -np.sort(-z, axis=1)
    largest_other = np.where(np.arange(5) == y[:, None], -np.inf, z).max(axis=1)
    np.testing.assert_allclose(margin(scores, label).detach(), largest_other - z[rows, y])
    np.testing.assert_allclose(
        dlr(scores, label).detach(), (largest_other - z[rows, y]) / (ranked[:, 0] - ranked[:, 2])
    )
    expected = (z[rows, i] - z[rows, y]) / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2)
    np.testing.assert_allclose(targeted_dlr(scores, label, other).detach(), expected)
    # The cross-entropy is the softplus of ours, and its gradient ours times a positive number.
    true = torch.nn.functional.cross_entropy(scores, label, reduction="none")
    ours = cross_entropy(scores, label)
    torch.testing.assert_close(torch.nn.functional.softplus(ours), true)
    (theirs,) = torch.autograd.grad(true.sum(), scores, retain_graph=True)
    (mine,) = torch.autograd.grad(ours.sum(), scores)
    np.testing.assert_allclose(torch.sigmoid(ours).detach()[:, None] * mine, theirs, atol=1e-12)


# --- front ends -------------------------------------------------------------------------------------------------


def test_semi_white_box_is_the_formula():
    model, X, y = defended()
    X, y = _still_right(model, X, y)
    w = model[-1].coef_
    towards = np.where(y == 3, 1, -1)[:, None]  # classes_ is (3, 7): lifting the decision function leaves class 3
    expected = X + 0.1 * np.sign(w) * towards
    X_adv = SemiWhiteBox(eps=0.1, clip=None).perturb(model, X, y)
    improved = margins(model, expected, y) > margins(model, X, y)
    np.testing.assert_allclose(X_adv[improved], expected[improved], atol=1e-15)
    np.testing.assert_array_equal(X_adv[~improved], X[~improved])
    boxed = SemiWhiteBox(eps=0.1).perturb(model, X, y)
    right = margins(model, boxed, y) <= 0
    np.testing.assert_array_equal(right, margins(model, np.clip(expected, 0, 1), y) <= 0)


@pytest.mark.parametrize("variant", [None, "paper", "code"])
@pytest.mark.parametrize("keep", ["last", "best"])
def test_white_box_is_the_formula(variant, keep):
    """Both published iterations, written out in NumPy."""
    model, X, y = defended()
    X, y = _still_right(model, X, y)
    front, w = model[0], model[-1].coef_
    towards = np.where(y == 3, 1, -1)[:, None]
    eps, delta, n_iter = 0.15, 0.04, 12

    def projected(points):
        return np.sign(front.project(np.broadcast_to(w, X.shape), points)) * towards

    iterates = [X]
    if variant is None:
        iterates.append(X + eps * projected(X))
    elif variant == "paper":
        e = np.zeros_like(X)
        for _ in range(n_iter):
            e = np.clip(e + delta * projected(X + e), -eps, eps)
            iterates.append(X + e)
    else:
        iterates.append(X + eps * np.sign(w) * towards)
        for _ in range(n_iter):
            iterates.append(X + eps * projected(iterates[-1]))
    seen = np.array([margins(model, points, y) for points in iterates])
    expected = seen.max(axis=0) if keep == "best" else seen[-1]
    attack = WhiteBox(
        eps=eps, iterated_projections=variant, step_size=delta, n_iter=n_iter, keep=keep, clip=None, random_state=0
    )
    attained = margins(model, attack.perturb(model, X, y), y)
    np.testing.assert_array_equal(attained > 0, expected > 0)
    if keep == "last" or variant is None:
        np.testing.assert_allclose(attained, expected, atol=1e-9)
    else:  # images leave with their first success, not their best
        np.testing.assert_allclose(attained[expected <= 0], expected[expected <= 0], atol=1e-9)


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_white_box_is_stronger_than_semi_white_box(kind):
    model, X, y = defended(kind)
    eps = 0.1

    def accuracy(attack):
        return model.score(attack.perturb(model, X, y), y)

    semi = accuracy(SemiWhiteBox(eps=eps))
    white = accuracy(WhiteBox(eps=eps))
    iterated = min(accuracy(WhiteBox(eps=eps, iterated_projections=variant)) for variant in ("paper", "code"))
    assert iterated <= white <= model.score(X, y)
    assert accuracy(PGD(eps=eps, gradient="worst", n_restarts=3, random_state=0)) <= min(semi, iterated) + 0.02


def test_worst_is_the_worst_of_all_backward_passes():
    model, X, y = defended("logistic")
    X, y = _still_right(model, X, y)
    settings = {"eps": 0.06, "n_iter": 10, "random_state": 0}
    alone = [
        margins(model, PGD(gradient=mode, **settings).perturb(model, X, y), y)
        for mode in ("exact", "identity", "projection", "smooth")
    ]
    worst = margins(model, PGD(gradient="worst", **settings).perturb(model, X, y), y)
    fallen = np.max(alone, axis=0) > 0
    np.testing.assert_array_equal(worst > 0, fallen)
    np.testing.assert_allclose(worst[~fallen], np.max(alone, axis=0)[~fallen], atol=1e-9)
    assert fallen.sum() > max((a > 0).sum() for a in alone), "no one backward pass finds all: the case is a real one"


def test_gradient_skip_never_calls_the_front_end():
    """His images are those of the same attack on the classifier alone, made as harmful as possible."""
    model, X, y = defended("logistic")
    X, y = _still_right(model, X, y)
    attack = IterativeFGSM(eps=0.1, gradient="skip")
    assert attack.threat_model == "semi-white box" and IterativeFGSM.threat_model == "white box"
    X_adv = attack.perturb(model, X, y)
    moved = np.any(X_adv != X, axis=1)
    assert moved.mean() > 0.5
    alone = margins(model[-1], X_adv[moved], y[moved])
    assert np.all(alone > margins(model[-1], X[moved], y[moved]))
    assert np.all(norm_of(X_adv - X, "linf") <= 0.1)


@pytest.mark.parametrize(
    "attack", [PGD(random_state=0), FGSM(), LocallyLinear(), IterativeLocallyLinear(n_iter=10)], ids=str
)
def test_targeted(attack):
    """Images end in the class aimed at, and nowhere else counts as success."""
    net, X, y = network()
    right = predict(net, X) == y
    X, y = X[right], y[right]
    target = (y + 1) % 10
    X_adv = attack.set_params(eps=0.3).perturb(net, X, y, y_target=target)
    answers = predict(net, X_adv)
    before = predict(net, X)
    assert np.mean(answers == target) > (0.05 if isinstance(attack, FGSM | LocallyLinear) else 0.5)
    with torch.no_grad():
        lift = [
            (z[np.arange(len(y)), target] - _others(z, target))
            for z in (net(torch.tensor(v)).numpy() for v in (X, X_adv))
        ]
    assert np.all(lift[1] >= lift[0])
    assert np.all(before == y)


def _others(scores, target):
    return np.where(np.arange(10) == target[:, None], -np.inf, scores).max(axis=1)


def test_expectation_over_transformation():
    """A model that adds noise: averaging passes finds the direction that one noisy pass misses."""
    X, y, X_test, y_test = digits()
    net, X, y = network()
    noisy = torch.nn.Sequential(_Noise(1.5), net).eval()

    def accuracy(n_eot):
        torch.manual_seed(0)
        X_adv = FGSM(eps=0.15, n_eot=n_eot, loss="margin").perturb(noisy, X, y)
        moved = np.any(X_adv != X, axis=(1, 2))
        return margins(net, X_adv[moved], y[moved]).mean()

    assert accuracy(40) > accuracy(1)


class _Noise(torch.nn.Module):
    def __init__(self, sigma):
        super().__init__()
        self.sigma = sigma

    def forward(self, X):
        return X + self.sigma * torch.randn_like(X)
