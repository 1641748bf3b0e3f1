"""Attacks that look for the nearest adversarial image, and transfer attacks."""

import numpy as np
import pytest
import torch
from attacks_helpers import binary_svm, defended, digits, logistic, margins, network, norm_of, predict
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from skrobust.attacks import (
    DDN,
    FAB,
    FGSM,
    FMN,
    PDPGD,
    PGD,
    CarliniWagner,
    HopSkipJump,
    LocallyLinear,
    SigmaZero,
    Square,
    Transfer,
)
from skrobust.attacks.core.solvers import level_above


def _right(model, X, y):
    right = predict(model, X) == y
    return X[right], y[right]


def _reference(net, x, y, c, n_iter, rate, confidence):
    """Carlini and Wagner's objective through autograd and torch's own Adam, for one image; the nearest success."""
    x = torch.tensor(x)
    w = torch.atanh((2 * x - 1) * 0.999999).requires_grad_(True)
    optimizer = torch.optim.Adam([w], lr=rate)
    best = np.inf
    for _ in range(n_iter + 1):
        optimizer.zero_grad()
        image = (torch.tanh(w) + 1) / 2
        scores = net(image[None].float())[0].double()
        largest_other = torch.cat([scores[:y], scores[y + 1 :]]).max()
        distance = (image - x).square().sum()
        if float((largest_other - scores[y]).detach()) > max(confidence, 1e-5):
            best = min(best, float(distance.detach()) ** 0.5)
        (distance + c * (scores[y] - largest_other).clamp_min(-confidence)).backward(inputs=[w])
        optimizer.step()
    return best


@pytest.mark.parametrize("confidence", [0.0, 2.0])
def test_carlini_wagner_against_autograd(confidence):
    net, X, y = network()
    X, y = _right(net, X, y)
    X, y = X[:6].astype(np.float64), y[:6]
    attack = CarliniWagner(
        n_iter=60,
        learning_rate=0.05,
        initial_const=2.0,
        binary_search_steps=1,
        confidence=confidence,
        abort_early=False,
    )
    X_adv = attack.perturb(net, X, y)
    consts = 2.0 / (-margins(net, X, y) / 10)  # c in units of a tenth of the clean image's gap
    for x, label, const, distance in zip(X, y, consts, norm_of(X_adv - X, "l2"), strict=True):
        expected = _reference(net, x, label, const, 60, 0.05, confidence)
        assert distance == pytest.approx(expected if np.isfinite(expected) else 0, abs=1e-6)  # the network is float32


@pytest.mark.parametrize("clip", [(0, 1), None])
def test_carlini_wagner_finds_the_distance_to_a_linear_boundary(clip):
    model, X, y = binary_svm()
    X, y = _right(model, X, y)
    expected = -margins(model, X, y) / np.linalg.norm(model.coef_)
    attack = CarliniWagner(n_iter=300, learning_rate=0.01, initial_const=0.1, binary_search_steps=8, clip=clip)
    X_adv = attack.perturb(model, X, y)
    assert np.all(model.predict(X_adv) != y)
    distances = norm_of(X_adv - X, "l2")
    assert np.all(distances >= expected * (1 - 1e-9))
    if clip is None:  # in the box the distance may be larger
        # The weight c is known to a factor of 2^(1/8), and Adam circles its optimum by steps of 0.01.
        np.testing.assert_allclose(distances, expected, rtol=0.03)
    else:
        assert np.median(distances / expected) < 1.5


def test_carlini_wagner_is_nearer_than_attacks_of_fixed_size():
    net, X, y = network()
    X, y = _right(net, X, y)
    X_adv = CarliniWagner(n_iter=100, learning_rate=0.05, initial_const=0.1).perturb(net, X, y)
    fallen = predict(net, X_adv) != y
    assert fallen.mean() > 0.99
    distances = norm_of(X_adv - X, "l2")
    for eps in np.arange(0.2, 2, 0.2):
        theirs = predict(net, FGSM(eps=eps, norm="l2").perturb(net, X, y)) != y
        # Whoever falls to FGSM at eps is nearer than eps, but for an image in a local minimum.
        assert np.mean(distances < eps) >= theirs.mean() - 0.01
    # And a radius is an attack of that size.
    within = CarliniWagner(eps=0.5, n_iter=100, learning_rate=0.05, initial_const=0.1).perturb(net, X, y)
    np.testing.assert_array_equal(predict(net, within) != y, distances <= 0.5)
    assert norm_of(within.astype(np.float64) - X, "l2").max() <= 0.5


def test_more_search_is_nearer():
    net, X, y = network()
    X, y = _right(net, X[:40], y[:40])
    few, many = (
        norm_of(CarliniWagner(n_iter=80, learning_rate=0.03, binary_search_steps=n).perturb(net, X, y) - X, "l2")
        for n in (3, 7)
    )
    assert np.all((many <= few + 1e-6) | (few == 0))  # zero: no success at all
    assert np.mean(many[few > 0]) < np.mean(few[few > 0])


def test_worst_backward_pass_of_a_nearest_attack_is_the_nearest():
    model, X, y = defended("logistic")
    X, y = _right(model, X[:60], y[:60])
    params = {"n_iter": 60, "learning_rate": 0.05, "initial_const": 1.0, "binary_search_steps": 3}
    each = []
    for gradient in ("exact", "identity", "projection", "smooth"):
        X_adv = CarliniWagner(gradient=gradient, **params).perturb(model, X, y)
        each.append(np.where(model.predict(X_adv) != y, norm_of(X_adv - X, "l2"), np.inf))
    X_adv = CarliniWagner(gradient="worst", **params).perturb(model, X, y)
    distances = np.where(model.predict(X_adv) != y, norm_of(X_adv - X, "l2"), np.inf)
    np.testing.assert_allclose(distances, np.min(each, axis=0), atol=1e-9)


def test_targeted_carlini_wagner():
    model, X, y = logistic()
    X, y = _right(model, X[:30], y[:30])
    target = (y + 5) % 10
    attack = CarliniWagner(n_iter=150, learning_rate=0.05, initial_const=1.0)
    X_adv = attack.perturb(model, X, y, y_target=target)
    assert np.mean(model.predict(X_adv) == target) > 0.95


# --- FMN, DDN, PDPGD -------------------------------------------------------------------------------------------

FAST = [
    *((FMN(norm=norm, n_iter=200), 1.01) for norm in ("linf", "l2", "l1")),
    *((PDPGD(norm=norm), ratio) for norm, ratio in (("linf", 1.05), ("l2", 1.02), ("l1", 1.05))),
    (DDN(n_iter=200), 1.01),
]


@pytest.mark.parametrize("attack, ratio", FAST, ids=lambda value: str(value).replace("\n", ""))
def test_fast_attacks_find_the_distance_to_a_linear_boundary(attack, ratio):
    model, X, y = binary_svm()
    X, y = _right(model, X, y)
    X, y = X[:20], y[:20]
    dual = {"linf": 1, "l2": 2, "l1": np.inf}[attack.norm]
    expected = -margins(model, X, y) / np.linalg.norm(model.coef_.ravel(), ord=dual)
    X_adv = clone(attack).set_params(clip=None).perturb(model, X, y)
    assert np.all(model.predict(X_adv) != y)
    ratios = norm_of(X_adv - X, attack.norm) / expected
    assert np.all(ratios >= 1 - 1e-9)
    assert np.median(ratios) < ratio


@pytest.mark.parametrize("attack, ratio", FAST, ids=lambda value: str(value).replace("\n", ""))
def test_fast_attacks_on_a_network_beside_fab(attack, ratio):
    """One path instead of nine: at most 10 % farther in the median, and all images adversarial in the box."""
    net, X, y = network()
    X, y = _right(net, X, y)
    X, y = X[:40], y[:40]
    X_adv = attack.perturb(net, X, y)
    assert np.mean(predict(net, X_adv) != y) == 1 and X_adv.min() >= 0 and X_adv.max() <= 1
    exact = norm_of(FAB(np.inf, norm=attack.norm, n_iter=40).perturb(net, X, y) - X, attack.norm)
    assert np.median(norm_of(X_adv - X, attack.norm)) < 1.1 * np.median(exact)


@pytest.mark.parametrize("attack", [FMN(), DDN(), PDPGD(n_iter=200)], ids=str)
def test_fast_attacks_in_other_units(attack):
    """Bytes and logits of another scale: the same relative distances."""
    model, X, y = logistic()
    X, y = _right(model, X[:20], y[:20])
    near = attack.perturb(model, X, y) - X
    wide = LogisticRegression().fit(X[:2], [0, 1])
    wide.classes_, wide.coef_, wide.intercept_ = model.classes_, model.coef_ * 1e6 / 256, model.intercept_ * 1e6
    wide.n_features_in_ = X.shape[1]
    far = clone(attack).set_params(clip=(0, 256)).perturb(wide, 256 * X, y) - 256 * X
    # The constant 1e-8 in the denominator of Adam is not in units of the gradient.
    rtol = 1e-2 if isinstance(attack, PDPGD) else 1e-13
    np.testing.assert_allclose(norm_of(far, attack.norm) / 256, norm_of(near, attack.norm), rtol=rtol)


def test_fast_attacks_within_a_radius_end_at_the_first_success():
    model, X, y = logistic()
    X, y = _right(model, X, y)
    X_adv = FMN(0.1, n_iter=40).perturb(model, X, y)
    assert norm_of(X_adv - X, "linf").max() <= 0.1
    exact = model.score(LocallyLinear(0.1).perturb(model, X, y), y)
    assert exact <= model.score(X_adv, y) <= exact + 0.05  # which tries all classes


# --- HopSkipJump ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm, dual, ratio", [("l2", 2, 1.25), ("linf", 1, 1.6)])
def test_hop_skip_jump_approaches_the_distance_to_a_linear_boundary(norm, dual, ratio):
    """With labels alone it approaches the distance given by the formula."""
    model, X, y = binary_svm()
    X, y = _right(model, X, y)
    X, y = X[:10], y[:10]
    expected = -margins(model, X, y) / np.linalg.norm(model.coef_.ravel(), ord=dual)
    params = {"eps": np.inf, "norm": norm, "clip": (-5, 5), "random_state": 0}
    distances = []
    for n_iter in (1, 25):
        X_adv = HopSkipJump(n_iter=n_iter, **params).perturb(model, X, y)
        assert np.all(model.predict(X_adv) != y)
        distances.append(norm_of(X_adv - X, norm))
    assert np.all(distances[1] >= expected * (1 - 1e-9))
    assert np.all(distances[1] <= distances[0])
    assert np.median(distances[1] / expected) < ratio < np.median(distances[0] / expected)


def test_hop_skip_jump_needs_labels_only():
    X, y, X_test, y_test = digits()
    names = np.array([f"digit {k}" for k in range(10)])
    inner = RandomForestClassifier(20, random_state=0).fit(X, names[y])

    class Oracle:
        classes_ = inner.classes_
        n_queries = 0

        def predict(self, X):
            Oracle.n_queries += len(X)
            return inner.predict(X)

    X, y = X_test[:20], names[y_test[:20]]
    attack = HopSkipJump(eps=0.15, n_iter=4, n_eval_init=40, random_state=0)
    X_adv = attack.perturb(Oracle(), X, y)
    assert inner.score(X_adv, y) < inner.score(X, y)
    assert norm_of(X_adv - X, "linf").max() <= 0.15
    assert 500 < Oracle.n_queries < 20 * 2000


def test_hop_skip_jump_without_a_box():
    model, X, y = binary_svm()
    X, y = _right(model, X[:5], y[:5])
    X_adv = HopSkipJump(eps=np.inf, norm="l2", n_iter=3, clip=None, random_state=0).perturb(model, X, y)
    assert np.all(model.predict(X_adv) != y)


def test_images_without_a_starting_point_are_unchanged():
    class Stubborn:
        classes_ = np.array([0, 1])

        def predict(self, X):
            return np.zeros(len(X), dtype=int)

    X, _, _, _ = digits()
    X_adv = HopSkipJump(eps=np.inf, n_init=3).perturb(Stubborn(), X[:4], np.zeros(4, dtype=int))
    np.testing.assert_array_equal(X_adv, X[:4])


# --- transfer ---------------------------------------------------------------------------------------------------


def test_transfer_returns_the_images_of_the_attack_on_the_source():
    """The images are those of the full attack on the source; the model is not queried during it."""
    X, y, X_test, y_test = digits()
    source = logistic()[0]
    model = RandomForestClassifier(30, random_state=0).fit(X, y)
    attack = FGSM(eps=0.15)
    X_adv = Transfer(attack, source).perturb(model, X_test, y_test)
    alone = attack.perturb(source, X_test, y_test)
    both_right = (model.predict(X_test) == y_test) & (source.predict(X_test) == y_test)
    changed = np.any(X_adv != X_test, axis=1)
    same = both_right & changed
    np.testing.assert_array_equal(X_adv[same], alone[same])
    # Images that the source misclassifies are attacked as well.
    wrong = (model.predict(X_test) == y_test) & (source.predict(X_test) != y_test)
    assert wrong.any() and np.any(changed & wrong)
    assert model.score(X_adv, y_test) < model.score(X_test, y_test)


def test_transfer_is_weaker_than_the_white_box_and_stronger_when_the_attack_runs_on():
    X, y, X_test, y_test = digits()
    source = logistic()[0]
    model = LinearSVC(random_state=0).fit(X, y)
    attack = PGD(eps=0.1, random_state=0)
    transferred = model.score(Transfer(attack, source).perturb(model, X_test, y_test), y_test)
    left_early = model.score(attack.perturb(source, X_test, y_test), y_test)
    white = model.score(LocallyLinear(eps=0.1).perturb(model, X_test, y_test), y_test)
    assert white < transferred < left_early


def test_transfer_of_a_black_box_and_to_a_network():
    net, X, y = network()
    source = logistic()[0]

    class Flat(torch.nn.Module):
        def forward(self, X):
            return net(X.reshape(-1, 8, 8))

    flat = X.reshape(len(X), -1)
    model = Flat()
    X_adv = Transfer(Square(eps=0.2, n_iter=100, image_shape=(8, 8), random_state=0), source).perturb(model, flat, y)
    assert np.mean(predict(model, X_adv) == y) < np.mean(predict(model, flat) == y)


def test_transfer_needs_the_same_classes():
    X, y, X_test, y_test = digits()
    source = LogisticRegression(max_iter=500).fit(X[y < 9], y[y < 9])
    model = LogisticRegression(max_iter=500).fit(X, y)
    with pytest.raises(ValueError, match="same classes"):
        Transfer(FGSM(), source).perturb(model, X_test, y_test)


def test_cloning_keeps_the_source():
    source, _, _ = logistic()
    attack = Transfer(PGD(), source).set_params(eps=0.3)
    copy = clone(attack)
    assert copy.source is source and copy.attack is not attack.attack and copy.eps == copy.attack.eps == 0.3
    assert copy.describe()["name"] == "PGD on LogisticRegression"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_level_above_against_sorting(dtype):
    magnitude = torch.rand(50, 31, dtype=dtype, generator=torch.Generator().manual_seed(0))
    magnitude[0], magnitude[1] = 0, 1
    total = torch.linspace(0.01, 20, 50, dtype=dtype)  # more than some of the rows have
    sums = magnitude.sort(dim=1, descending=True).values.cumsum(1) - total[:, None]
    expected = (sums / torch.arange(1, 32)).amax(1, keepdim=True)
    torch.testing.assert_close(level_above(magnitude, total), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("attack", [FMN(norm="l0", n_iter=100), SigmaZero(n_iter=300)], ids=["FMN", "SigmaZero"])
def test_fewest_features_of_a_linear_model(attack):
    """In the order of their gains, features at the end of the box change the label soonest."""
    model, X, y = binary_svm()
    X, y = _right(model, X, y)
    scores = model.decision_function(X)
    ahead = -np.sign(scores)[:, None] * model.coef_
    gains = np.sort(np.where(ahead > 0, ahead * (1 - X), -ahead * X), axis=1)[:, ::-1]
    fewest = 1 + (gains.cumsum(axis=1) < np.abs(scores)[:, None]).sum(axis=1)
    X_adv = attack.perturb(model, X, y)
    changed = (X_adv != X).sum(axis=1)
    assert np.all(model.predict(X_adv) != y) and X_adv.min() >= 0 and X_adv.max() <= 1
    assert np.all(changed >= fewest) and np.mean(changed) <= 1.25 * np.mean(fewest)


@pytest.mark.parametrize("attack", [FMN(norm="l0", n_iter=40), SigmaZero(n_iter=40)], ids=["FMN", "SigmaZero"])
def test_an_l0_radius_bounds_the_number_of_changed_features(attack):
    model, X, y = logistic()
    X, y = _right(model, X, y)
    for eps in (0, 1, 3.5):
        changed = (clone(attack).set_params(eps=eps).perturb(model, X, y) != X).sum(axis=1)
        assert changed.max() <= eps and (eps < 3 or changed.max() == 3)


def test_sigma_zero_does_not_depend_on_the_range_of_the_images():
    model, X, y = binary_svm()
    X, y = _right(model, X, y)
    scaled = clone(model)
    scaled.__dict__.update(vars(model), coef_=model.coef_ / 255)
    bytes_adv = SigmaZero(n_iter=50, clip=(0, 255)).perturb(scaled, X * 255, y)
    changed = (SigmaZero(n_iter=50).perturb(model, X, y) != X).sum(axis=1)
    assert np.mean((bytes_adv != X * 255).sum(axis=1) == changed) > 0.9
