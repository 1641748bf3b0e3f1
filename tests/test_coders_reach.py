"""Perturbations and codes: code bounds, flip distances, ambiguous shares, chosen thresholds."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from skrobust.estimators import PolarizingCoder
from skrobust.kernels.rounding import exceeds, gamma, smallest_above

DIGITS = load_digits().data / 16

# Numbers whose sums and differences round in every way, and tie.
AWKWARD = st.sampled_from([0.0, 0.1, 0.2, 0.30000000000000004, 0.3, 0.5, 0.7, 0.9, 1.0, 1 / 3, 1e-17, 2**-60, 0.4375])


@given(a=AWKWARD, b=AWKWARD, c=AWKWARD)
def test_exact_comparisons(a, b, c):
    exact = Fraction(a) + Fraction(b)
    assert bool(exceeds(a, b, c)) == (exact > Fraction(c))
    difference = Fraction(a) - Fraction(b)
    loose, strict = float(smallest_above(a, b, strictly=False)), float(smallest_above(a, b, strictly=True))
    assert Fraction(np.nextafter(loose, -np.inf)) < difference <= Fraction(loose)
    assert Fraction(np.nextafter(strict, -np.inf)) <= difference < Fraction(strict)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gamma_bounds_real_sums(dtype):
    rng = np.random.default_rng(0)
    worst = 0
    for n in (3, 50, 784):
        for _ in range(30):
            a = rng.normal(size=n).astype(dtype)
            b = rng.normal(size=n).astype(dtype)
            exact = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True))
            error = abs(Fraction(float(a @ b)) - exact) / Fraction(float(np.abs(a) @ np.abs(b)))
            worst = max(worst, float(error) / gamma(n, dtype))
    assert 0 < worst < 0.5
    with pytest.raises(ValueError, match="leave no correct digit"):
        gamma(10**8, np.float32)


@given(
    x=AWKWARD,
    t=AWKWARD,
    eps=AWKWARD,
    levels=st.sampled_from(["binary", "ternary"]),
    clip=st.sampled_from([None, (0, 1), (-1, 1), (0.25, 2)]),
    sign=st.sampled_from([-1, 1]),
)
def test_pixel_bounds_are_exact(x, t, eps, levels, clip, sign):
    x *= sign
    low, high = (-np.inf, np.inf) if clip is None else clip
    x = min(max(x, low), high)
    coder = PolarizingCoder(threshold=t, levels=levels).fit([[x]])
    bounds = coder.code_bounds([[x]], eps, clip=clip)
    ends = [Fraction(x) - Fraction(eps), Fraction(x) + Fraction(eps)]
    if clip is not None:
        ends = [max(ends[0], Fraction(low)), min(ends[1], Fraction(high))]

    def code(value):
        return int(value > Fraction(t)) - int(levels == "ternary" and -value > Fraction(t))

    assert (int(bounds.lower[0, 0]), int(bounds.upper[0, 0])) == (code(ends[0]), code(ends[1]))
    assert bounds.ambiguous[0, 0] == (code(ends[0]) != code(ends[1]))
    assert bounds.surely_on[0, 0] + bounds.surely_off[0, 0] + bounds.ambiguous[0, 0] == 1


@given(x=AWKWARD, t=AWKWARD, levels=st.sampled_from(["binary", "ternary"]), clip=st.sampled_from([None, (0, 1)]))
def test_pixel_distances_are_the_least_that_flips(x, t, levels, clip):
    coder = PolarizingCoder(threshold=t, levels=levels).fit([[x]])
    values = np.array([[x]])
    on, distance = coder.switches_.flip_distances(values[..., None], "linf", clip)
    expected = [x > t, -x > t][: 1 if levels == "binary" else 2]
    assert on[0].tolist() == expected
    for switch, d in enumerate(distance[0]):
        if np.isinf(d):
            d = 5.0
            bounds = coder.code_bounds(values, d, clip=clip)
            reachable = bounds.upper[0, 0] != bounds.lower[0, 0]
            # The other switch may be what moves.
            assert not reachable or levels == "ternary"
            continue

        def state(value, switch=switch):
            return (value if switch == 0 else -value) > Fraction(t)

        step = d if (on[0, switch] == (switch == 1)) else -d
        assert state(Fraction(x) + Fraction(step)) != on[0, switch]
        below = np.nextafter(step, 0) if d > 0 else None
        if below is not None:
            assert state(Fraction(x) + Fraction(below)) == on[0, switch]


KINDS = [
    {"dictionary": "average"},
    {"dictionary": "average", "kernel_size": 2, "stride": 2, "n_thresholds": 2},
    {"dictionary": "haar", "levels": "ternary"},
    {"dictionary": "db2", "level": 2, "threshold": 0.02},
    {"dictionary": np.random.default_rng(0).normal(size=(5, 3, 4)), "levels": "ternary", "threshold": 0.1},
    {"dictionary": np.random.default_rng(0).normal(size=(30, 64)), "threshold": 0.02},
]


def _atom_matrix(coder):
    """l1-normalised atoms, (n_codes, 64)."""
    units = np.eye(64).reshape(64, 8, 8)
    return np.repeat(coder.responses(units).reshape(64, -1).T, coder.thresholds_.shape[1], axis=0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("clip", [None, (0, 1)])
@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bounds_hold_and_are_reached(kind, clip, norm, dtype):
    coder = PolarizingCoder(**KINDS[kind], image_shape=(8, 8)).fit(DIGITS)
    rng = np.random.default_rng(1)
    X = DIGITS[:15].astype(dtype)
    D = _atom_matrix(coder)
    eps = {"linf": 0.1, "l2": 0.3, "l1": 0.5}[norm]
    bounds = coder.code_bounds(X, eps, norm=norm, clip=clip)
    assert 0 < bounds.ambiguous.mean() < 1

    def perturbed(direction):
        """The farthest image along a direction, by the dual of the norm, one a sample."""
        if norm == "linf":
            e = eps * np.sign(direction)
        elif norm == "l2":
            e = eps * direction / np.linalg.norm(direction, axis=-1, keepdims=True)
        else:
            e = eps * np.sign(direction) * (np.abs(direction) == np.abs(direction).max(axis=-1, keepdims=True))
            e /= np.maximum(np.abs(e).sum(axis=-1, keepdims=True) / eps, 1)
        Z = X.astype(np.float64) + e * (1 - 1e-6)
        return (Z if clip is None else Z.clip(*clip)).astype(dtype)

    def inside(codes):
        assert (codes >= bounds.lower).all()
        assert (codes <= bounds.upper).all()

    inside(coder.transform(X))
    random = [perturbed(rng.normal(size=X.shape)) for _ in range(20)]
    # Perturbations made for one atom each; in linf its bounds are reached, unless the response is within rounding.
    aimed_at = rng.permutation(len(D))[:40]
    aimed = [perturbed(sign * np.broadcast_to(D[j], X.shape)) for j in aimed_at for sign in (-1, 1)]
    codes = coder.transform(np.concatenate([*random, *aimed])).reshape(len(random) + len(aimed), *bounds.lower.shape)
    inside(codes)
    if norm == "linf" or clip is None:
        for j, (down, up) in zip(aimed_at, codes[len(random) :].reshape(-1, 2, *bounds.lower.shape), strict=True):
            assert np.mean(down[:, j] == bounds.lower[:, j]) > 0.9
            assert np.mean(up[:, j] == bounds.upper[:, j]) > 0.9
    inside(coder.transform(torch.from_numpy(aimed[0])).numpy())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_distances_agree_with_bounds(kind, norm):
    coder = PolarizingCoder(**KINDS[kind], image_shape=(8, 8)).fit(DIGITS)
    X = DIGITS[:10]
    distance = coder.switches_.flip_distances(X.reshape(-1, 8, 8, 1), norm, None)[1]
    n_codes = int(np.prod(coder.code_shape_))
    nearest = distance.reshape(10, -1, n_codes).min(axis=1)
    for eps in (0.0, 0.05, 0.2, 0.8):
        moved = coder.code_bounds(X, eps, norm=norm).ambiguous
        assert (nearest[moved] <= eps + 1e-12).all()
        assert (nearest[~moved] >= eps - 1e-9).all()


def test_eps_may_differ_by_image():
    coder = PolarizingCoder("average", image_shape=(8, 8)).fit(DIGITS)
    eps = np.linspace(0, 0.4, 12)
    together = coder.code_bounds(DIGITS[:12], eps, clip=(0, 1))
    for i in range(12):
        alone = coder.code_bounds(DIGITS[i : i + 1], eps[i], clip=(0, 1))
        np.testing.assert_array_equal(together.lower[i], alone.lower[0])
        np.testing.assert_array_equal(together.upper[i], alone.upper[0])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"eps": -0.1}, "eps must be finite and not negative, got -0.1"),
        ({"eps": np.nan}, "eps must be finite"),
        ({"eps": [0.1, 0.2]}, r"one entry per sample, 5; got shape \(2,\)"),
        ({"eps": 0.1, "norm": "l3"}, "norm must be one of 'linf', 'l2', 'l1', got 'l3'"),
        ({"eps": 0.1, "clip": (1, 0)}, r"clip must be None or .*got \(1, 0\)"),
        ({"eps": 0.1, "clip": (0, 0.5)}, r"X has values from 0 to 1, outside clip=\(0, 0.5\)"),
    ],
)
def test_bad_balls(params, message):
    coder = PolarizingCoder().fit(DIGITS)
    with pytest.raises(ValueError, match=message):
        coder.code_bounds(DIGITS[:5], **params)


# Ambiguous shares.


def test_ambiguous_share_counts():
    coder = PolarizingCoder(threshold=[[0.3, 0.6]], image_shape=(8, 8)).fit(DIGITS)
    X = DIGITS[:100]
    share = coder.ambiguous_share(X, 0.1)
    moved = np.abs(X[:, :, None] - [0.3, 0.6]) <= 0.1
    assert share.overall == pytest.approx(moved.mean())
    np.testing.assert_allclose(share.per_atom.ravel(), moved.mean(axis=0).ravel())
    assert share.per_atom.shape == coder.code_shape_ == (8, 8, 2)
    np.testing.assert_allclose(share.per_image, moved.mean(axis=(1, 2)))
    codes = coder.transform(X)
    pairs = [np.mean(codes[i] != codes[j]) for i in range(100) for j in range(i)]
    assert share.difference == pytest.approx(np.mean(pairs))
    assert share.ratio == pytest.approx(share.overall / np.mean(pairs))
    ternary = PolarizingCoder(threshold=0.2, levels="ternary").fit(X - 0.5)
    codes = ternary.transform(X - 0.5)
    pairs = [np.mean(codes[i] != codes[j]) for i in range(100) for j in range(i)]
    assert ternary.ambiguous_share(X - 0.5, 0.1).difference == pytest.approx(np.mean(pairs))


def test_verdicts():
    rng = np.random.default_rng(0)
    polar = (rng.random((200, 30)) < 0.5).astype(float)
    coder = PolarizingCoder(eps=0.2).fit(polar)
    assert coder.ambiguous_share(polar, 0.2).verdict.startswith("Fits: linf perturbations of 0.2 can change 0.0%")
    grey = rng.random((200, 30))
    coder = PolarizingCoder(eps=0.2).fit(grey)
    verdicts = [coder.ambiguous_share(grey, eps).verdict.split(":")[0] for eps in (0.03, 0.1, 0.2)]
    assert verdicts == ["Fits", "Fits partly", "Does not fit"]
    assert str(coder.ambiguous_share(np.zeros((3, 30)), 0.1)).startswith("Useless: all images have the same code")


# Thresholds.


def _ratio(responses, t, eps):
    above = np.mean(responses > t)
    return np.mean(np.abs(responses - t) <= eps) / (2 * above * (1 - above))


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.2])
def test_chosen_threshold_is_the_best_of_all(eps):
    rng = np.random.default_rng(0)
    responses = np.concatenate([rng.beta(2, 8, 3000), rng.beta(9, 3, 2000)])
    chosen = PolarizingCoder(eps=eps).fit(responses[:, None]).thresholds_.item()
    grid = np.linspace(responses.min(), responses.max(), 999)[1:-1]
    share = np.array([np.mean(responses > t) for t in grid])
    grid = grid[(share >= 0.05) & (share <= 0.95)]
    best = min(_ratio(responses, t, eps) for t in grid)
    assert _ratio(responses, chosen, eps) <= best * 1.05 + 1e-3
    assert 0.05 <= np.mean(responses > chosen) <= 0.95


# Thresholds are edges of the bins of a histogram, so that they are known to the width of a bin.
def test_threshold_of_polar_data_lies_in_the_middle():
    X = np.repeat([[0.0, 1.0]], 10, axis=0).T.repeat(3, axis=1)
    assert PolarizingCoder(eps=0.1).fit(X).thresholds_.item() == pytest.approx(0.5, abs=0.01)
    X = np.repeat([[-0.7, 0.0, 0.7]], 10, axis=0).T
    ternary = PolarizingCoder(eps=0.1, levels="ternary").fit(X)
    assert ternary.thresholds_.item() == pytest.approx(0.35, abs=0.01)


def test_several_thresholds_lie_apart():
    X = np.random.default_rng(0).random((4000, 3))
    thresholds = PolarizingCoder(eps=0.05, n_thresholds=4).fit(X).thresholds_
    assert thresholds.shape == (1, 4)
    assert np.diff(thresholds[0]).min() >= 0.099
    # More than there is room for.
    crowded = PolarizingCoder(eps=0.3, n_thresholds=6).fit(X).thresholds_
    assert (np.diff(crowded[0]) > 0).all()


def test_thresholds_per_group_and_per_atom():
    rng = np.random.default_rng(0)
    X = (rng.random((500, 6, 6, 2)) < 0.5) * [0.4, 1.0]
    shared = PolarizingCoder(eps=0.05).fit(X)
    np.testing.assert_allclose(shared.thresholds_.ravel(), [0.2, 0.5], atol=0.01)
    scaled = X * np.linspace(0.5, 1, 6)[:, None, None]
    apart = PolarizingCoder(eps=0.05, share_thresholds=False).fit(scaled)
    assert apart.thresholds_.shape == (72, 1)
    np.testing.assert_allclose(
        apart.thresholds_.reshape(6, 6, 2)[:, 0], np.linspace(0.5, 1, 6)[:, None] * [0.2, 0.5], atol=0.02
    )


@pytest.mark.parametrize("value", [0.0, -3.0, 1e6])
@pytest.mark.parametrize("params", [{}, {"n_thresholds": 3}, {"levels": "ternary"}, {"dictionary": "haar"}])
def test_constant_data_have_thresholds_all_the_same(value, params):
    coder = PolarizingCoder(**params).fit(np.full((4, 6, 6), value))
    assert np.isfinite(coder.thresholds_).all()
    assert np.ptp(coder.transform(np.full((2, 6, 6), value)), axis=0).max() == 0
