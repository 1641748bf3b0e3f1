"""Attacks do not depend on the scale of scores, on a common shift, or on a class that is never predicted."""

import numpy as np
import pytest
import torch
from attacks_helpers import ATTACKS, digits, logistic, make_attack, margins, network
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin

from skrobust.attacks import FAB, JSMA, PGD, CarliniWagner, HopSkipJump, RandomNoise, Square
from skrobust.attacks.core.losses import Goal, dlr, margin, targeted_dlr
from skrobust.bridge import as_module
from skrobust.evaluation.masking import Probe, check_randomness


class ScaledModel(torch.nn.Module):
    """A linear model with its scores scaled, shifted, and optionally a class that is never predicted."""

    def __init__(self, model, scale=1.0, shift=0.0, dead=None):
        super().__init__()
        self.weight, self.bias = (torch.as_tensor(values) for values in (model.coef_, model.intercept_))
        self.scale, self.shift, self.dead = scale, shift, dead

    def forward(self, X):
        scores = (X @ self.weight.to(X).T + self.bias.to(X)) * self.scale + self.shift
        return scores if self.dead is None else torch.nn.functional.pad(scores, (0, 1), value=self.dead)


class ScaledClassifier(ClassifierMixin, BaseEstimator):
    """The same with scikit-learn's methods, for attacks that call `predict`."""

    def __init__(self, model, scale=1.0, shift=0.0, dead=None):
        self.model, self.scale, self.shift, self.dead = model, scale, shift, dead
        self.classes_ = np.arange(10 if dead is None else 11)

    def decision_function(self, X):
        with torch.no_grad():
            return ScaledModel(self.model, self.scale, self.shift, self.dead)(torch.as_tensor(X)).numpy()

    def predict(self, X):
        return self.decision_function(X).argmax(axis=1)


def _margins_after(name, scaled, X, y):
    """Margins, by the unscaled model, of the images that an attack on the scaled one returns."""
    eps = {"CarliniWagner": np.inf}.get(name, 0.1)
    return margins(logistic()[0], make_attack(name, scaled, eps=eps).perturb(scaled, X, y).astype(np.float64), y)


@pytest.mark.parametrize("name", ATTACKS)
@given(data=st.data())
@settings(max_examples=4)
def test_attacks_do_not_depend_on_the_scale_and_shift_of_scores(name, data):
    model, X, y = logistic()
    variants = [ScaledModel, ScaledClassifier] if name in ("RandomNoise", "Square", "HopSkipJump") else [ScaledModel]
    variant = data.draw(st.sampled_from(variants), label="variant")
    dtype = data.draw(st.sampled_from(["float64", "float32"]), label="dtype")
    scale = 10.0 ** data.draw(st.integers(-20, 20), label="exponent of the scale")
    shift = data.draw(st.sampled_from([0.0, 1e6, -1e6]), label="shift")
    dead = data.draw(st.sampled_from([None, -1e9]), label="dead")
    if shift:
        scale = 1.0  # the shift would round smaller scores away
    if dead is not None:
        dead = dead * max(scale, 1.0)
    X, y = X[:10].astype(dtype), y[:10]
    plain = _margins_after(name, variant(model), X, y)
    scaled = _margins_after(name, variant(model, scale, shift, dead), X, y)
    # float32 scores near 1e6 are rounded to multiples of 1/16.
    rounding = 8 * np.finfo(dtype).eps * max(abs(shift), 30)
    clear = np.abs(plain) > rounding
    np.testing.assert_array_equal((scaled > 0)[clear], (plain > 0)[clear])
    if not (shift and dtype == "float32"):
        standing = plain <= -rounding
        np.testing.assert_allclose(scaled[standing], plain[standing], atol=1e-4 if dtype == "float32" else 1e-8)


@pytest.mark.parametrize(
    "attack",
    [
        FAB(np.inf, n_iter=20),
        HopSkipJump(np.inf, n_iter=2, random_state=0),
        CarliniWagner(n_iter=100, learning_rate=0.05),
    ],
    ids=str,
)
@pytest.mark.parametrize("dead", [-1e9, -np.inf])
def test_a_masked_class_does_not_hide_successes(attack, dead):
    """A tolerance relative to the score of the masked class would treat every success as rounding."""
    model, X, y = logistic()
    X, y = X[:10].astype(np.float32), y[:10]
    for scaled in (ScaledModel(model), ScaledModel(model, dead=dead)):
        X_adv = attack.perturb(scaled, X, y)
        assert np.all(scaled(torch.as_tensor(X_adv)).argmax(1).numpy() != y)


def test_jsma_with_very_large_scores():
    """The product of two derivatives of 1e20 overflows float32."""
    model, X, y = logistic()
    X, y = X[:30].astype(np.float32), y[:30]
    small, large = (JSMA().perturb(scaled, X, y) for scaled in (ScaledModel(model), ScaledModel(model, 1e20)))
    np.testing.assert_array_equal(large, small)
    assert np.mean(margins(model, large.astype(np.float64), y) > 0) > 0.5


@pytest.mark.parametrize(
    "attack", [PGD(0.1, n_iter=10, random_state=0), Square(0.1, n_iter=100, random_state=0)], ids=str
)
def test_two_real_classes_beside_a_masked_one(attack):
    """With two classes, the third score in the denominator of the DLR loss is the masked one."""
    X, y, X_test, y_test = digits()
    few, some = np.isin(y, [0, 8]), np.isin(y_test, [0, 8])
    module = as_module(type(logistic()[0])().fit(X[few], y[few] == 8))

    class Masked(torch.nn.Module):
        def forward(self, X):
            return torch.nn.functional.pad(module(X), (0, 1), value=-np.inf)

    label = (y_test[some] == 8).astype(int)
    if isinstance(attack, PGD):
        attack.set_params(loss="dlr")
    plain, masked = (
        variant(torch.as_tensor(attack.perturb(variant, X_test[some], label))).argmax(1).numpy() == label
        for variant in (torch.nn.Sequential(module), Masked())
    )
    np.testing.assert_array_equal(masked, plain)


def test_ratios_with_a_masked_class():
    scores = torch.tensor([[2.0, 1.0, -torch.inf, -torch.inf]], requires_grad=True)
    label, other = torch.tensor([0]), torch.tensor([1])
    for value in (dlr(scores, label), targeted_dlr(scores, label, other)):
        (gradient,) = torch.autograd.grad(value.sum(), scores)
        assert torch.isfinite(value) and gradient[0, 1] > 0 > gradient[0, 0]


@given(st.integers(-20, 20), st.sampled_from(["cross_entropy", "margin", "dlr"]))
def test_losses_in_units_of_the_deciding_gap(exponent, name):
    scores = torch.tensor(np.random.default_rng(0).normal(size=(6, 5)))
    label = torch.arange(6) % 5
    plain = Goal(label).measured_at(scores)
    measured = Goal(label).measured_at(scores * 10.0**exponent)
    torch.testing.assert_close(measured.loss(scores * 10.0**exponent, name), plain.loss(scores, name))
    torch.testing.assert_close(plain.unit, margin(scores, label).abs() / 10)


@given(st.floats(1e-20, 1e20), st.sampled_from([torch.float32, torch.float64]))
def test_a_success_exceeds_the_rounding_of_the_two_scores_that_decide(own, dtype):
    ulp = torch.finfo(dtype).eps * own
    scores = torch.tensor([[own, own + 16 * ulp, -1e30], [own, own + ulp, -1e30]], dtype=dtype)
    assert Goal(torch.tensor([0, 0])).reached(scores).tolist() == [True, False]


def test_black_box_attacks_with_very_small_scores():
    """Square climbs the scores themselves, not a tie that an absolute tolerance made of them."""
    model, X, y = logistic()
    X, y = X[:60], y[:60]
    square = Square(0.15, n_iter=200, image_shape=(8, 8), random_state=0)
    noise = RandomNoise(0.15, n_restarts=200, random_state=0)
    loud, quiet = (
        np.mean(margins(model, square.perturb(ScaledClassifier(model, scale), X, y), y) > 0) for scale in (1, 1e-18)
    )
    assert loud == quiet > np.mean(margins(model, noise.perturb(model, X, y), y) > 0)


def test_check_of_randomness_uses_the_deciding_scores():
    net, X, y = network()

    class Noisy(torch.nn.Module):
        def forward(self, X):
            scores = net(X)
            return torch.nn.functional.pad(scores + 1e-3 * torch.randn_like(scores), (0, 1), value=-1e9)

    right = net(torch.as_tensor(X)).argmax(1).numpy() == y
    probe = Probe(Noisy(), X[right][:20], y[right][:20], eps=0.1, attacks=[PGD()])
    assert check_randomness(probe).fired
