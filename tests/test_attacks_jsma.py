"""JSMA against Papernot's rule, by exhaustive search over pairs."""

import itertools

import numpy as np
import pytest
import torch
from attacks_helpers import logistic, network, predict
from hypothesis import given
from hypothesis import strategies as st

from skrobust.attacks import JSMA
from skrobust.attacks.gradient import jsma as room
from skrobust.attacks.gradient.jsma import best_pair, best_single


def _value(alpha, beta, free, pair):
    a, b = sum(alpha[i] for i in pair), sum(beta[i] for i in pair)
    return -a * b if a > 0 and b < 0 and all(free[i] for i in pair) else -np.inf


@given(
    seed=st.integers(0, 2**31 - 1),
    n_features=st.integers(1, 14),
    ties=st.booleans(),
    kind=st.sampled_from(["independent", "front", "hopeless"]),
)
def test_best_pair_is_the_best_of_all_pairs(seed, n_features, ties, kind):
    rng = np.random.default_rng(seed)
    alpha, beta = rng.normal(size=(2, 4, n_features))
    if kind == "front":  # every feature undominated
        alpha = np.sort(rng.uniform(size=(4, n_features)))
        beta = np.sort(-rng.uniform(size=(4, n_features)))
    if kind == "hopeless":
        alpha = -abs(alpha)
    if ties:
        alpha, beta = alpha.round(), beta.round()
    free = rng.random((4, n_features)) < 0.8
    pair, gain = best_pair(*(torch.tensor(v) for v in (alpha, beta, free)))
    single, single_gain = best_single(*(torch.tensor(v) for v in (alpha, beta, free)))
    for i in range(4):

        def values(combinations, i=i):
            return [_value(alpha[i], beta[i], free[i], chosen) for chosen in combinations]

        best = max(values(itertools.combinations(range(n_features), 2)), default=-np.inf)
        assert bool(gain[i]) == np.isfinite(best)
        if gain[i]:
            assert pair[i, 0] != pair[i, 1]
            assert _value(alpha[i], beta[i], free[i], pair[i].tolist()) == pytest.approx(best)
        best = max(values([(k,) for k in range(n_features)]))
        assert bool(single_gain[i]) == np.isfinite(best)
        if single_gain[i]:
            assert _value(alpha[i], beta[i], free[i], single[i].tolist()) == pytest.approx(best)


def test_small_tables_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    alpha, beta = (torch.tensor(v) for v in rng.normal(size=(2, 7, 30)))
    free = torch.ones(7, 30, dtype=torch.bool)
    expected = best_pair(alpha, beta, free)
    monkeypatch.setattr(room, "TABLE_BYTES", 1)
    for ours, theirs in zip(best_pair(alpha, beta, free), expected, strict=True):
        assert torch.equal(ours, theirs)


def _by_hand(net, x, target, theta, gamma):
    """Papernot's algorithm for one image, with the table of all pairs and the full Jacobian."""
    x = x.astype(np.float64).copy()
    shape, n = x.shape, x.size
    used = set()
    for _ in range(int(n * gamma / 2)):
        z = torch.tensor(x, requires_grad=True)
        scores = net(z[None].float())[0]
        if int(scores.argmax()) == target:
            break
        jacobian = np.stack([torch.autograd.grad(s, z, retain_graph=True)[0].numpy().ravel() for s in scores])
        up = jacobian[target]
        rest = np.delete(jacobian, target, axis=0).sum(axis=0)
        limit = 1.0 if theta > 0 else 0.0
        domain = [i for i in range(n) if i not in used and x.ravel()[i] != limit]
        best, chosen = 0, None
        for p, q in itertools.combinations(domain, 2):
            a, b = up[p] + up[q], rest[p] + rest[q]
            good = a > 0 and b < 0 if theta > 0 else a < 0 and b > 0
            if good and -a * b > best:
                best, chosen = -a * b, (p, q)
        if chosen is None:
            break
        flat = x.ravel()
        flat[list(chosen)] = np.clip(flat[list(chosen)] + theta, 0, 1)
        x = flat.reshape(shape)
        used |= set(chosen)
    return x


@pytest.mark.parametrize("theta", [1.0, 0.4, -0.7])
def test_pair_rule_by_hand(theta):
    """The same features in the same order, on a small network, image by image."""
    net, X, y = network()
    right = np.flatnonzero(predict(net, X) == y)[:20]
    X, y = X[right].astype(np.float64), y[right]
    target = (y + 3) % 10
    X_adv = JSMA(theta=theta, gamma=0.25).perturb(net, X, y, y_target=target)
    compared = 0
    for x, x_adv, goal in zip(X, X_adv, target, strict=True):
        expected = _by_hand(net, x, goal, theta, 0.25)
        if predict(net, expected[None])[0] == goal:
            np.testing.assert_allclose(x_adv, expected, atol=1e-12)
            compared += 1
    assert compared >= 2


def test_budget_and_change():
    model, X, y = logistic()
    for pairs, most in ((True, 12), (False, 12)):
        X_adv = JSMA(theta=0.5, gamma=0.2, pairs=pairs).perturb(model, X, y)
        changed = X_adv != X
        assert changed.sum(axis=1).max() <= most
        delta = X_adv - X
        assert delta.min() >= 0 and delta.max() <= 0.5
        np.testing.assert_allclose(X_adv[changed], np.minimum(X + 0.5, 1)[changed])
    lowered = JSMA(theta=-0.5, gamma=0.2).perturb(model, X, y) - X
    assert lowered.min() >= -0.5 and lowered.max() <= 0
    tiny = JSMA(gamma=0.01).perturb(model, X, y)
    np.testing.assert_array_equal(tiny, X)  # floor(64 * 0.01 / 2) = 0 pairs


def test_more_features_and_more_targets_only_help():
    model, X, y = logistic()
    one, all_nine = (model.score(JSMA(gamma=0.1, n_targets=n).perturb(model, X, y), y) for n in (1, None))
    assert all_nine <= one < model.score(X, y)
    assert model.score(JSMA(gamma=0.3).perturb(model, X, y), y) <= all_nine


def test_description_of_jsma():
    description = JSMA().describe()
    assert description["norm"] == "l0" and description["eps"] is None and description["gamma"] == 0.1
