"""APGD, FAB and their cascade: against slow transcriptions, exact optima and each other."""

import numpy as np
import pytest
import torch
from attacks_helpers import binary_svm, defended, digits, logistic, margins, network, norm_of, predict
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skrobust import PolarizingCoder
from skrobust.attacks import APGD, FAB, PGD, Cascade, CornerSearch, LocallyLinear, RandomNoise, Square, Transfer
from skrobust.attacks.core.box import Box
from skrobust.attacks.core.corners import Corners
from skrobust.attacks.core.solvers import capped_rate
from skrobust.attacks.core.streams import ImageStreams
from skrobust.attacks.gradient.fab import shortest_step


def _accuracy(model, attack, X, y):
    return np.mean(predict(model, attack.perturb(model, X, y)) == y)


def _apgd_by_the_paper(net, x, y, eps, n_iter, start):
    """Algorithm 1 for one image and l-infinity, step by step; returns the margins of all iterates."""

    def loss(z):
        z = torch.tensor(z, requires_grad=True)
        scores = net(z[None].float()).double()
        value = torch.nn.functional.cross_entropy(scores, torch.tensor([y]))
        (gradient,) = torch.autograd.grad(value, z)
        other_scores = scores[0].detach().clone()
        other_scores[y] = -torch.inf
        return float(value.detach()), gradient.numpy(), float(other_scores.max() - scores[0, y].detach())

    def project(z):
        return np.clip(np.clip(z, x - eps, x + eps), 0, 1)

    points, eta = [project(start)], 2 * eps
    value, gradient, margin = loss(points[0])
    values, seen = [value], [margin]
    best, best_value, best_gradient = points[0], value, gradient
    period, shortest = int(0.22 * n_iter), int(0.06 * n_iter)
    checkpoint, last_eta, last_best = 0, None, value
    current = points[0]
    for k in range(n_iter):
        ahead = project(current + eta * np.sign(gradient))
        share = 1 if k == 0 else 0.75
        previous = points[-2] if k else current
        new = project(current + share * (ahead - current) + (1 - share) * (current - previous))
        value, new_gradient, margin = loss(new)
        values.append(value)
        seen.append(margin)
        points.append(new)
        current, gradient = new, new_gradient
        if value > best_value:
            best, best_value, best_gradient = new, value, new_gradient
        if k + 1 - checkpoint == period:
            rises = sum(values[j + 1] > values[j] for j in range(checkpoint, k + 1))
            few = rises <= 0.75 * period
            unchanged = last_eta == eta and best_value <= last_best
            last_eta, last_best = eta, best_value
            if few or unchanged:
                eta /= 2
                current, gradient = best, best_gradient
            checkpoint, period = k + 1, max(period - int(0.03 * n_iter), shortest)
    return seen


def test_apgd_follows_the_paper():
    """Images that are never lost see the same iterates as the transcription."""
    net, X, y = network()
    eps, n_iter = 0.06, 50
    attack = APGD(eps=eps, n_iter=n_iter, random_state=3)
    right = np.flatnonzero(predict(net, X) == y)
    X_adv = attack.perturb(net, X[right].astype(np.float64), y[right])
    standing = np.flatnonzero(predict(net, X_adv) == y[right])[:8]
    attained = margins(net, X_adv, y[right])
    streams = ImageStreams(3)
    for i in standing:
        delta = streams.generator(int(i)).uniform(-1, 1, size=(8, 8))
        x = X[right[i]].astype(np.float64)
        seen = _apgd_by_the_paper(net, x, y[right[i]], eps, n_iter, x + eps * delta / np.abs(delta).max())
        assert len(seen) == n_iter + 1
        # float32 may order two nearly equal losses differently: paths may differ, final margins hardly do.
        assert attained[i] == pytest.approx(max(seen), abs=0.05)


@pytest.mark.parametrize("norm, eps", [("linf", 0.1), ("l2", 0.5)])
def test_apgd_needs_no_step_size(norm, eps):
    """At least as good as PGD at its best step size, within a point."""
    net, X, y = network()
    best = min(
        _accuracy(net, PGD(eps=eps, norm=norm, n_iter=50, step_size=step * eps, random_state=0), X, y)
        for step in (0.02, 0.1, 0.5)
    )
    assert _accuracy(net, APGD(eps=eps, norm=norm, n_iter=50, random_state=0), X, y) <= best + 0.01
    targeted = APGD(eps=eps, norm=norm, n_iter=50, loss="targeted_dlr", random_state=0)
    assert _accuracy(net, targeted, X, y) <= best + 0.005


def test_dlr_survives_scaling():
    net, X, y = network()

    class Louder(torch.nn.Module):
        def forward(self, scores):
            return 1e4 * scores

    loud = torch.nn.Sequential(net, Louder())
    quiet = _accuracy(net, APGD(eps=0.1, loss="dlr", n_iter=30, random_state=0), X, y)
    # In float32 other scores round differently, which may decide single images.
    assert _accuracy(loud, APGD(eps=0.1, loss="dlr", n_iter=30, random_state=0), X, y) == pytest.approx(quiet, abs=0.01)


@given(seed=st.integers(0, 2**31 - 1), n=st.integers(1, 12), share=st.floats(0, 1.2), infinite=st.booleans())
def test_capped_rate_solves_its_equation(seed, n, share, infinite):
    rng = np.random.default_rng(seed)
    weight, rate, cap = rng.uniform(0.01, 2, size=(3, n))
    rate[rng.random(n) < 0.2] = 0
    if infinite:
        cap[rng.random(n) < 0.3] = np.inf
    largest_total = np.sum(np.where(rate > 0, weight * np.minimum(cap, 1e3), 0))
    total = share * largest_total
    s = float(capped_rate(*(torch.tensor(v[None]) for v in (weight, rate, cap)), torch.tensor([total])))

    def reached(s):
        return np.sum(weight * np.minimum(s * rate, cap))

    if np.isinf(s):
        assert total >= reached(1e12) * (1 - 1e-12)
    else:
        assert reached(s) == pytest.approx(total, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("seed", range(5))
def test_shortest_step_to_a_hyperplane(norm, seed):
    """Against a linear program (linf, l1) or a general solver (l2), in the box."""
    rng = np.random.default_rng(seed)
    x, w = rng.uniform(0, 1, size=6), rng.normal(size=6)
    largest_change = np.where(w > 0, 1 - x, -x) @ w
    b = -(w @ x + (0.6 if seed % 2 else -0.5) * (largest_change if seed % 2 else np.where(w > 0, x, x - 1) @ w))
    box = Box.of((torch.tensor(0.0), torch.tensor(1.0)), torch.tensor(x[None]))
    tensors = torch.tensor(x[None]), torch.tensor(w[None]), torch.tensor([b], dtype=torch.float64)
    step = shortest_step(box, *tensors, norm).numpy().ravel()
    assert w @ (x + step) + b == pytest.approx(0, abs=1e-9)
    assert np.all(x + step >= -1e-12) and np.all(x + step <= 1 + 1e-12)
    length = norm_of(step[None], norm)[0]
    target = -b - w @ x
    if norm == "l2":
        result = optimize.minimize(
            lambda d: d @ d,
            step * 1.01,
            bounds=[(-v, 1 - v) for v in x],
            constraints=[{"type": "eq", "fun": lambda d: w @ d - target}],
            tol=1e-14,
        )
        expected = np.sqrt(result.fun)
    elif norm == "l1":
        bounds = [(0, 1 - v) for v in x] + [(0, v) for v in x]
        expected = optimize.linprog(np.ones(12), A_eq=[np.concatenate([w, -w])], b_eq=[target], bounds=bounds).fun
    else:
        bounds = [(-v, 1 - v) for v in x] + [(0, None)]
        sides = np.vstack([np.hstack([np.eye(6), -np.ones((6, 1))]), np.hstack([-np.eye(6), -np.ones((6, 1))])])
        expected = optimize.linprog(
            [0] * 6 + [1], A_ub=sides, b_ub=np.zeros(12), A_eq=[[*w, 0]], b_eq=[target], bounds=bounds
        ).fun
    assert length == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("norm, dual", [("linf", 1), ("l2", 2), ("l1", np.inf)])
def test_fab_finds_the_distance_to_a_linear_boundary(norm, dual):
    model, X, y = binary_svm()
    right = model.predict(X) == y
    X, y = X[right], y[right]
    X_adv = FAB(eps=np.inf, norm=norm, clip=None, n_iter=30).perturb(model, X, y)
    assert np.all(model.predict(X_adv) != y)
    expected = -margins(model, X, y) / np.linalg.norm(model.coef_.ravel(), ord=dual)
    distances = norm_of(X_adv - X, norm)
    assert np.all(distances >= expected * (1 - 1e-9))
    np.testing.assert_allclose(distances, expected, rtol=0.05 + 1e-6)  # eta = 1.05 oversteps the boundary


def test_fab_agrees_with_the_exact_attack_on_ten_classes():
    model, X, y = logistic()
    X, y = X[:100], y[:100]
    for norm, eps in (("linf", 0.05), ("l1", 1.0)):
        exact = _accuracy(model, LocallyLinear(eps=eps, norm=norm), X, y)
        assert exact <= _accuracy(model, FAB(eps=eps, norm=norm, n_iter=40), X, y) <= exact + 0.01


def test_fab_improves_with_steps_on_a_piecewise_linear_model():
    """More steps reduce the distance: no image gets stuck on the boundary of one linear piece, within rounding."""
    net, X, y = network()
    right = predict(net, X) == y
    X, y = X[right], y[right]
    first, few, many = (
        FAB(eps=np.inf, n_iter=n, n_targets=3).perturb(net, X, y).astype(np.float64) for n in (1, 10, 40)
    )
    first, few, many = (
        np.where(predict(net, X_adv) != y, norm_of(X_adv - X, "linf"), np.inf) for X_adv in (first, few, many)
    )
    assert np.all(few <= first) and np.all(many <= few)
    assert np.mean(many < few) > 0.9 and np.isfinite(few).all()
    by_rows = PGD(eps=np.median(many), n_restarts=5, random_state=0)
    assert abs(np.mean(predict(net, by_rows.perturb(net, X, y)) != y) - 0.5) < 0.03


def test_fab_minimises_the_distance():
    """Its images are nearer than PGD's, at an eps where both succeed."""
    net, X, y = network()
    eps = 1.5
    ours = FAB(eps=np.inf, norm="l2", n_iter=30, n_targets=3).perturb(net, X, y)
    theirs = PGD(eps=eps, norm="l2", random_state=0).perturb(net, X, y)
    both = (predict(net, ours) != y) & (predict(net, theirs) != y) & (predict(net, X) == y)
    assert both.sum() > 100
    assert norm_of(ours - X, "l2")[both].mean() < 0.5 * norm_of(theirs - X, "l2")[both].mean()


@pytest.mark.parametrize("norm, eps", [("linf", 0.1), ("l2", 0.5)])
def test_cascade_is_as_strong_as_its_parts(norm, eps):
    net, X, y = network()
    params = {"eps": eps, "norm": norm, "random_state": 0}
    standing = predict(net, Cascade(n_iter=15, n_queries=60, **params).perturb(net, X, y)) == y
    parts = [
        APGD(n_iter=15, **params),
        APGD(n_iter=15, loss="targeted_dlr", **params),
        FAB(n_iter=15, **params),
        Square(n_iter=60, rescale_schedule=False, **params),
    ]
    alone = np.array([predict(net, part.perturb(net, X, y)) == y for part in parts])
    # A part may lose, alone, an image that an earlier part left at another draw; none of the first part's come back.
    assert not np.any(standing & ~alone[0])
    assert standing.mean() <= alone.mean(axis=1).min()
    np.testing.assert_array_equal(standing, alone.all(axis=0))


@pytest.mark.parametrize("n_classes, eps", [(2, 0.3), (3, 0.15)])
def test_cascade_with_few_classes(n_classes, eps):
    X, y, X_test, y_test = digits()
    model = LogisticRegression(C=10, max_iter=2000).fit(X[y < n_classes], y[y < n_classes])
    X, y = X_test[y_test < n_classes], y_test[y_test < n_classes]
    exact = _accuracy(model, LocallyLinear(eps=eps), X, y)
    assert 0.05 < exact < 0.95
    assert _accuracy(model, Cascade(eps=eps, n_iter=20, n_queries=20, random_state=0), X, y) == exact


def test_cascade_of_given_attacks():
    model, X, y = defended("logistic")
    attacks = [RandomNoise(n_restarts=3), LocallyLinear(), PGD(n_iter=5)]
    cascade = Cascade(eps=0.1, attacks=attacks, gradient="worst", random_state=0)
    parts = cascade.describe()["attacks"]
    assert [part["name"] for part in parts] == ["RandomNoise", "LocallyLinear", "PGD"]
    assert [part["gradient"] for part in parts] == [None, "worst", "worst"]
    assert attacks[1].gradient == "exact", "the user's attacks are left as they were"
    worst = _accuracy(model, cascade, X, y)
    assert worst <= min(_accuracy(model, part.set_params(eps=0.1, random_state=0), X, y) for part in attacks)
    with pytest.raises(TypeError, match="attacks must contain attacks"):
        Cascade(attacks=[LogisticRegression()]).perturb(model, X, y)


@pytest.fixture(scope="module")
def thresholded():
    """A network over thresholded pixels: constant nearly everywhere."""
    X, y, X_test, y_test = digits()
    head = MLPClassifier((64,), max_iter=100, random_state=0)
    return make_pipeline(PolarizingCoder(n_thresholds=2), head).fit(X, y), X_test, y_test


@pytest.mark.parametrize(
    "attack", [PGD(n_iter=5), APGD(n_iter=5), Cascade(n_iter=5, n_queries=5, n_targets=2)], ids=repr
)
def test_worst_searches_corners_where_gradients_are_zero(thresholded, attack):
    model, X, y = thresholded
    params = {"eps": 0.1, "gradient": "worst", "random_state": 0}
    corners = CornerSearch(eps=0.1, n_targets=9).perturb(model, X, y)
    X_adv = attack.set_params(**params).perturb(model, X, y)
    lost = model.predict(corners) != y
    assert 0.2 < lost.mean() < 0.8
    assert np.all(model.predict(X_adv)[lost] != y[lost])


def test_the_cascade_searches_corners_once(thresholded, monkeypatch):
    model, X, y = thresholded
    calls = []
    monkeypatch.setattr(Corners, "run", lambda self, search: calls.append(len(search.remaining())))
    Cascade(n_iter=2, n_queries=2, gradient="worst", random_state=0).perturb(model, X[:20], y[:20])
    assert len(calls) == 1
    for model, X, y in (defended("logistic"), logistic()):
        Cascade(n_iter=2, n_queries=2, gradient="worst", random_state=0).perturb(model, X[:20], y[:20])
    assert len(calls) == 1, "these have gradients"


def test_cascade_with_transfer():
    model, X, y = logistic()
    source = LogisticRegression(C=0.1, max_iter=2000).fit(*digits()[:2])
    transfer = Transfer(PGD(eps=0.3, n_iter=10), source)
    cascade = Cascade(eps=0.05, attacks=[RandomNoise(), transfer], random_state=0)
    assert [part["eps"] for part in cascade.describe()["attacks"]] == [0.05, 0.05]
    assert transfer.eps == 0.3, "the user's attack is left as it was"
    X_adv = cascade.perturb(model, X, y)
    assert np.max(norm_of(X_adv - X, "linf")) <= 0.05
    alone = Transfer(PGD(eps=0.05, n_iter=10, random_state=0), source).perturb(model, X, y)
    assert np.mean(model.predict(X_adv) == y) <= np.mean(model.predict(alone) == y) < 0.9
