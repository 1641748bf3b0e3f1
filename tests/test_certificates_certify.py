"""Certificates against exact rational arithmetic, enumeration and attacks."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC

from skrobust import WaveletSparsifier
from skrobust.attacks import PGD, RandomNoise
from skrobust.certificates import NoCertificateError, certify
from skrobust.certificates.wavelet_proof import line_above, line_below
from skrobust.estimators import PolarizingCoder

DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS = DIGITS / 16
TRAIN, TEST = slice(0, 900), slice(900, 1100)


def tiny_images(rng, n=30, n_features=6, n_classes=3):
    """Few values on a grid, so that distances to thresholds tie."""
    X = rng.integers(0, 9, size=(n, n_features)) / 8
    return X, np.arange(n) % n_classes


def rational(array):
    return [[Fraction(float(v)) for v in row] for row in np.atleast_2d(array)]


def rational_scores(pipeline, z):
    """Scores of a scaler and a linear classifier on one code, exactly."""
    for step in pipeline[:-1]:
        if isinstance(step, StandardScaler):
            z = [(v - Fraction(m)) / Fraction(s) for v, m, s in zip(z, step.mean_, step.scale_, strict=True)]
    head = pipeline[-1]
    coef, intercept = rational(head.coef_), [Fraction(float(b)) for b in np.ravel(head.intercept_)]
    scores = [sum(w * v for w, v in zip(row, z, strict=True)) + b for row, b in zip(coef, intercept, strict=True)]
    return scores if len(scores) > 1 else [-scores[0] / 2, scores[0] / 2]


def worst_margin(pipeline, codes, label):
    margins = []
    for z in codes:
        scores = rational_scores(pipeline, z)
        margins.append(min(scores[label] - s for c, s in enumerate(scores) if c != label))
    return min(margins)


def compare(certified, margins, exact=True):
    """Never optimistic; and, where exact, never too careful beyond rounding."""
    for verdict, margin in zip(certified, margins, strict=True):
        if verdict:
            assert margin > 0
        elif exact:
            assert margin < 1e-9


@given(
    seed=st.integers(0, 10**6),
    levels=st.sampled_from(["binary", "ternary"]),
    n_classes=st.sampled_from([2, 3]),
    eps=st.sampled_from([0.0, 0.05, 0.125, 0.2, 0.25, 0.4]),
    scaled=st.booleans(),
    clip=st.sampled_from([None, (0, 1)]),
    cuts=st.sampled_from([[0.5], [0.3], [0.25, 0.5], [0.2, 0.3, 0.9]]),
)
def test_codes_against_enumeration(seed, levels, n_classes, eps, scaled, clip, cuts):
    rng = np.random.default_rng(seed)
    X, y = tiny_images(rng, n=8, n_features=4, n_classes=n_classes)
    # Any fitted head will do; a real one is seldom near a tie.
    n_codes = 4 * len(cuts)
    head = LogisticRegression().fit(rng.normal(size=(30, n_codes)), np.arange(30) % n_classes)
    head.coef_ = rng.integers(-4, 5, size=head.coef_.shape) / 4 + (0.1 if seed % 2 else 0)
    head.intercept_ = rng.integers(-3, 4, size=head.intercept_.shape) / 2
    coder = PolarizingCoder(threshold=[cuts], levels=levels).fit(X)
    steps = [StandardScaler().fit(coder.transform(X))] if scaled else []
    pipeline = make_pipeline(coder, *steps, head)
    certificate = certify(pipeline, X, y, eps, clip=clip)
    cuts = [Fraction(t) for t in coder.thresholds_[0]]

    def code(value):
        return tuple(int(value > t) - int(levels == "ternary" and -value > t) for t in cuts)

    margins = []
    for x, label in zip(X, y, strict=True):
        reachable = []
        for value in map(Fraction, x):
            low, high = value - Fraction(eps), value + Fraction(eps)
            if clip is not None:
                low, high = max(low, 0), min(high, 1)
            # A code changes only at thresholds: one value between each pair is enough.
            ends = sorted([t for cut in cuts for t in (cut, -cut) if low <= t <= high] + [low, high])
            middles = [(a + b) / 2 for a, b in itertools.pairwise(ends)]
            reachable.append(sorted({code(v) for v in (*ends, *middles)}))
        codes = [[Fraction(v) for entries in z for v in entries] for z in itertools.product(*reachable)]
        margins.append(worst_margin(make_pipeline(*steps, head), codes, label))
    assert certificate.is_exact
    compare(certificate.certified, margins)
    # A radius says what a verdict at that radius says.
    if eps > 0:
        np.testing.assert_array_equal(certificate.certified, certificate.radius >= eps)
    again = certify(pipeline, X, y, eps, clip=clip, radius=False)
    assert again.radius is None
    np.testing.assert_array_equal(again.certified, certificate.certified)


@given(
    seed=st.integers(0, 10**6),
    n_classes=st.sampled_from([2, 3]),
    eps=st.sampled_from([0.0, 0.05, 0.125, 0.3]),
    clip=st.sampled_from([None, (0, 1)]),
    norm=st.sampled_from(["linf", "l1"]),
)
def test_linear_against_rationals(seed, n_classes, eps, clip, norm):
    rng = np.random.default_rng(seed)
    X, y = tiny_images(rng, n_classes=n_classes)
    head = LinearSVC().fit(rng.normal(size=(30, 6)), np.arange(30) % n_classes)
    head.coef_ = rng.integers(-4, 5, size=head.coef_.shape) / 4 + (0.1 if seed % 2 else 0)
    head.intercept_ = rng.integers(-3, 4, size=head.intercept_.shape) / 8
    certificate = certify(make_pipeline(head), X, y, eps, clip=clip, norm=norm)
    margins = []
    coef, intercept = rational(head.coef_), [Fraction(float(b)) for b in head.intercept_]
    if n_classes == 2:
        coef, intercept = [[-w / 2 for w in coef[0]], [w / 2 for w in coef[0]]], [-intercept[0] / 2, intercept[0] / 2]
    e = Fraction(eps)
    for x, label in zip(X, y, strict=True):
        x = [Fraction(v) for v in x]
        worst = []
        for rival in range(n_classes):
            if rival == label:
                continue
            d = [a - b for a, b in zip(coef[label], coef[rival], strict=True)]
            value = sum(w * v for w, v in zip(d, x, strict=True)) + intercept[label] - intercept[rival]
            if norm == "l1":
                value -= e * max(map(abs, d))
            else:
                for w, v in zip(d, x, strict=True):
                    largest_change = e if clip is None else min(e, v if w > 0 else 1 - v)
                    value -= abs(w) * largest_change
            worst.append(value)
        margins.append(min(worst))
    compare(certificate.certified, margins, exact=certificate.is_exact)
    assert certificate.is_exact == (norm == "linf" or clip is None)


def true_radii(pipeline, coder, X, y, power):
    """Exact radii for pixels by enumerating all sets of pixels that could be switched."""
    t = coder.thresholds_.item()
    radii = []
    for x, label in zip(X, y, strict=True):
        best = np.inf
        cost = np.abs(x - t) ** power
        z = (x > t).astype(float)
        for chosen in itertools.product([False, True], repeat=len(x)):
            flipped = np.where(chosen, 1 - z, z)
            scores = pipeline[1:].decision_function(flipped[None])[0]
            if np.argmax(scores) != label:
                best = min(best, cost[list(chosen)].sum() ** (1 / power))
        radii.append(best)
    return np.array(radii)


@pytest.mark.parametrize(("norm", "power"), [("l2", 2), ("l1", 1)])
def test_budget_against_enumeration(norm, power):
    rng = np.random.default_rng(0)
    X = rng.random((60, 8))
    coder = PolarizingCoder(threshold=0.5).fit(X)
    y = np.argmax(coder.transform(X) @ rng.normal(size=(8, 3)), axis=1)
    pipeline = make_pipeline(coder, LogisticRegression(C=10)).fit(X, y)
    certificate = certify(pipeline, X, y, 0.2, norm=norm, clip=None)
    exact = np.where(certificate.correct, true_radii(pipeline, coder, X, y, power), 0)
    assert (certificate.radius <= exact + 1e-12).all()
    judged = certificate.correct & np.isfinite(exact)
    # Not vacuous: fractions of entries cost little.
    assert np.mean(certificate.radius[judged] / exact[judged]) > 0.8


def scored(model, X):
    return np.asarray(model.predict(X))


HEADS = {
    "logistic": make_pipeline(LogisticRegression(C=0.1, max_iter=300)),
    "svm after a scaler": make_pipeline(StandardScaler(), LinearSVC(C=1e-3)),
    "one-vs-rest": OneVsRestClassifier(LinearSVC(C=0.01)),
    "one-vs-rest of pipelines": OneVsRestClassifier(make_pipeline(MaxAbsScaler(), LogisticRegression(C=0.1))),
    "ridge": make_pipeline(RobustScaler(quantile_range=(0, 100)), RidgeClassifier(alpha=10.0)),
    "sgd": make_pipeline(MinMaxScaler((-1, 1)), SGDClassifier(alpha=0.01, random_state=0)),
    "pca": make_pipeline(PCA(20, random_state=0), LogisticRegression(C=0.1, max_iter=300)),
    "whitened": make_pipeline(PCA(20, whiten=True, random_state=0), LogisticRegression(C=0.01)),
    "svd": make_pipeline(TruncatedSVD(20, random_state=0), Perceptron()),
    "selected": make_pipeline(VarianceThreshold(1e-3), FunctionTransformer(), LinearDiscriminantAnalysis()),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_exact(name):
    """The worst code changes images that are not certified; none of many codes changes a certified one."""
    coder = PolarizingCoder(threshold=0.5)
    model = make_pipeline(coder, HEADS[name]).fit(DIGITS[TRAIN], LABELS[TRAIN])
    X, y = DIGITS[TEST], LABELS[TEST]
    eps = 0.1
    certificate = certify(model, X, y, eps, radius=False)
    assert certificate.is_exact
    np.testing.assert_array_equal(certificate.correct, scored(model, X) == y)
    assert 0.1 < certificate.certified_accuracy < certificate.accuracy
    lost = np.zeros(len(X), dtype=bool)
    codes = (X > 0.5).astype(float)
    # Effect of each entry on each score: the model is affine in the code.
    head = model[1]
    base = head.decision_function(np.zeros((1, 64)))
    effect = head.decision_function(np.eye(64)) - base
    ambiguous = np.abs(X - 0.5) <= eps
    for rival in range(10):
        gain = (effect[:, [rival]] - effect[:, y]).T
        up = ambiguous & (gain > 0)
        down = ambiguous & (gain < 0)
        Z = np.where(up & (codes == 0), 0.5 + 1e-9, np.where(down & (codes == 1), 0.5, X))
        assert np.abs(Z - X).max() <= eps + 2e-9
        lost |= scored(model, Z) != y
    np.testing.assert_array_equal(certificate.certified, ~lost)


MODELS = {
    "linear": make_pipeline(LogisticRegression(C=0.01, max_iter=300)),
    "pixel": make_pipeline(PolarizingCoder(), LogisticRegression(C=0.1, max_iter=300)),
    "thermometer": make_pipeline(PolarizingCoder(n_thresholds=2), LinearSVC(C=1e-3)),
    "average": make_pipeline(PolarizingCoder("average", kernel_size=2, image_shape=(8, 8)), LinearSVC(C=1e-2)),
    "haar code": make_pipeline(
        PolarizingCoder("haar", levels="ternary", image_shape=(8, 8), sparse_output=True),
        MaxAbsScaler(),
        LinearSVC(C=0.01),
    ),
    "reconstruction": make_pipeline(
        PolarizingCoder("average", output="reconstruction", image_shape=(8, 8)), StandardScaler(), LinearSVC(C=1e-3)
    ),
    "wavelet": make_pipeline(
        WaveletSparsifier("haar", n_nonzero_coefs=0.3, image_shape=(8, 8)), LogisticRegression(C=0.1, max_iter=300)
    ),
    "clipped wavelet": make_pipeline(
        WaveletSparsifier("db2", n_nonzero_coefs=1.0, clip=(0, 1), image_shape=(8, 8)), LinearSVC(C=1e-3)
    ),
}


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", MODELS)
def test_no_attack_inside_the_radius(name, norm, dtype):
    X, y = DIGITS[TEST].astype(dtype), LABELS[TEST]
    model = MODELS[name].fit(DIGITS[TRAIN].astype(dtype), LABELS[TRAIN])
    eps = {"linf": 0.03, "l2": 0.1, "l1": 0.2}[norm] * (0.2 if name == "wavelet" else 1)
    certificate = certify(model, X, y, eps, norm=norm)
    assert 0 < certificate.certified_accuracy <= certificate.accuracy
    np.testing.assert_array_equal(certificate.certified, certificate.radius >= eps)
    chosen = np.flatnonzero((certificate.radius > 1e-6) & np.isfinite(certificate.radius))[:60]
    gradient = "smooth" if name not in ("linear",) else "exact"
    for shrink in (1.0, 0.5):
        radius = np.median(certificate.radius[chosen]) * shrink
        inside = chosen[certificate.radius[chosen] >= radius]
        for attack in (
            PGD(eps=radius, norm=norm, n_iter=15, loss="margin", gradient=gradient, random_state=0),
            RandomNoise(eps=radius, norm=norm, n_restarts=5, random_state=0),
        ):
            attacked = attack.perturb(model, X[inside], y[inside])
            assert (scored(model, attacked) == y[inside]).all()


def test_wavelets_against_all_corners():
    rng = np.random.default_rng(0)
    X = rng.random((40, 4, 4)) * (rng.random((40, 4, 4)) < 0.5)
    y = (X.mean(axis=(1, 2)) > np.median(X.mean(axis=(1, 2)))).astype(int)
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=16))).reshape(-1, 4, 4)
    n_certified = 0
    for clip in (None, (0, 1)):
        front = WaveletSparsifier("haar", n_nonzero_coefs=6, level=2, clip=clip)
        flat = FunctionTransformer(_flatten)
        pipeline = make_pipeline(front, flat, LogisticRegression(C=100)).fit(X, y)
        # certify knows no reshaping: the same model on rows.
        rows = make_pipeline(front.set_params(image_shape=(4, 4)), LogisticRegression(C=100)).fit(X.reshape(40, 16), y)
        np.testing.assert_array_equal(rows.predict(X.reshape(40, 16)), pipeline.predict(X))
        for eps in (0.01, 0.03):
            certificate = certify(rows, X.reshape(40, 16), y, eps)
            n_certified += certificate.certified.sum()
            for i in np.flatnonzero(certificate.certified)[:6]:
                Z = np.clip(X[i] + eps * corners, 0, 1)
                assert (rows.predict(Z.reshape(-1, 16)) == y[i]).all()
    assert n_certified > 20


def _flatten(X):
    return X.reshape(len(X), -1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_front_end_that_keeps_everything_has_the_linear_certificate(norm):
    X, y = DIGITS[TEST], LABELS[TEST]
    front = WaveletSparsifier("db2", n_nonzero_coefs=1.0, image_shape=(8, 8))
    model = make_pipeline(front, LogisticRegression(C=0.1, max_iter=300)).fit(DIGITS[TRAIN], LABELS[TRAIN])
    through = certify(model, X, y, 0.05, norm=norm)
    plain = certify(model[1], X, y, 0.05, norm=norm)
    np.testing.assert_allclose(through.radius, plain.radius, atol=1e-6)


@given(
    low=st.floats(-2, 2),
    width=st.floats(0, 3),
    clip=st.sampled_from([(0, 1), (-0.5, 0.25)]),
)
def test_lines_enclose_the_clip(low, width, clip):
    high = low + width
    v = np.linspace(low, high, 101)
    for line, sign in ((line_below, 1), (line_above, -1)):
        slope, offset = line(np.array([low]), np.array([high]), clip)
        assert (sign * (np.clip(v, *clip) - (slope * v + offset)) >= -1e-12).all()
        if clip[0] < low and high < clip[1]:
            assert slope[0] == pytest.approx(1, abs=1e-9)


def test_gap_condition_is_needed():
    """Where the gap is too small, the support does change, and then a proof would be wrong."""
    X = np.array([[0.5, 0.5, 0.52, 0.52], [0.9, 0.9, 0.2, 0.2]])
    front = WaveletSparsifier("haar", n_nonzero_coefs=1, level=1)
    model = make_pipeline(front, LogisticRegression()).fit(X, [0, 1])
    model[-1].coef_ = np.array([[1.0, 1.0, -1.0, -1.0]])
    model[-1].intercept_ = np.zeros(1)
    certificate = certify(model, X, [0, 1], 0.05)
    assert certificate.certified.tolist() == [False, True]
    assert 0.009 <= certificate.radius[0] <= 0.0101
    assert model.predict(X[:1] + [[0.011, 0.011, -0.011, -0.011]]).tolist() == [1]


def test_binary_strings_searches_and_unknown_labels():
    names = np.array(["even", "odd"])[LABELS % 2]
    search = GridSearchCV(make_pipeline(PolarizingCoder(), LinearSVC()), {"linearsvc__C": [0.001, 0.01]}, cv=2)
    search.fit(DIGITS[TRAIN], names[TRAIN])
    certificate = certify(search, DIGITS[TEST], names[TEST], 0.05)
    assert 0.2 < certificate.certified_accuracy < certificate.accuracy
    strange = names[TEST].astype(object)
    strange[:50] = "neither"
    other = certify(search, DIGITS[TEST], strange, 0.05)
    assert not other.certified[:50].any()
    assert not other.radius[:50].any()
    np.testing.assert_array_equal(other.certified[50:], certificate.certified[50:])


def test_text_of_certificates():
    model = MODELS["pixel"].fit(DIGITS[TRAIN], LABELS[TRAIN])
    certificate = certify(model, DIGITS[TEST], LABELS[TEST], 0.1)
    assert certificate.accuracy_at(0) == certificate.accuracy
    assert certificate.accuracy_at(0.1) == certificate.certified_accuracy
    curve = certificate.accuracy_at([0, 0.05, 0.1, 0.2])
    assert (np.diff(curve) <= 0).all()
    assert "images certified at linf eps = 0.1" in str(certificate)
    with pytest.raises(ValueError, match="call certify with radius=True"):
        certify(model, DIGITS[TEST], LABELS[TEST], 0.1, radius=False).accuracy_at(0.1)


def test_layouts():
    images = DIGITS.reshape(-1, 8, 8)
    model = make_pipeline(PolarizingCoder("average"), LinearSVC(C=0.01)).fit(images[TRAIN], LABELS[TRAIN])
    as_images = certify(model, images[TEST], LABELS[TEST], 0.05)
    as_rows = certify(model, DIGITS[TEST], LABELS[TEST], 0.05)
    np.testing.assert_array_equal(as_images.radius, as_rows.radius)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (make_pipeline(PolarizingCoder(), SVC()), r"step 'svc' \(SVC\): only linear classifiers"),
        (SVC(kernel="linear"), r"No certificate for SVC: only linear classifiers"),
        (make_pipeline(PolarizingCoder(), Normalizer(), LinearSVC()), r"through step 'normalizer' \(Normalizer\)"),
        (make_pipeline(PolarizingCoder(), MinMaxScaler(clip=True), LinearSVC()), "through step 'minmaxscaler'"),
        (make_pipeline(StandardScaler(), PolarizingCoder(), LinearSVC()), "the front end must come first"),
        (make_pipeline(WaveletSparsifier(level=3, image_shape=(8, 8)), LinearSVC()), None),
        (make_pipeline(WaveletSparsifier("db5", level=6), LinearSVC()), None),
    ],
)
def test_models_without_certificate_are_refused(model, message):
    model.fit(DIGITS[:60], LABELS[:60])
    if message is None:
        certify(model, DIGITS[:5], LABELS[:5], 0.01)
        return
    with pytest.raises(NoCertificateError, match=message):
        certify(model, DIGITS[:5], LABELS[:5], 0.01)


def test_wavelets_without_certificate():
    X, y = np.random.default_rng(0).random((20, 6 * 6 * 3)), np.arange(20) % 2
    odd = make_pipeline(WaveletSparsifier("haar", level=2, image_shape=(6, 6, 3)), LinearSVC()).fit(X, y)
    with pytest.raises(NoCertificateError, match=r"not orthonormal \(is_orthonormal_ is False\)"):
        certify(odd, X, y, 0.1)
    colored = make_pipeline(WaveletSparsifier("haar", color_space="ycbcr", image_shape=(6, 6, 3)), LinearSVC())
    with pytest.raises(NoCertificateError, match="mixes the channels"):
        certify(colored.fit(X, y), X, y, 0.1)
    apart = make_pipeline(WaveletSparsifier("haar", n_nonzero_coefs=1.0, image_shape=(6, 6, 3)), LinearSVC())
    assert certify(apart.fit(X, y), X, y, 1e-3).certified_accuracy > 0


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"eps": -1}, "eps must be finite and not negative"),
        ({"eps": [0.1]}, "eps must be a number"),
        ({"eps": 0.1, "norm": "l0"}, "norm must be one of"),
        ({"eps": 0.1, "clip": (0, 0.9)}, "outside clip="),
    ],
)
@pytest.mark.parametrize("name", ["linear", "pixel", "wavelet"])
def test_bad_balls(name, params, message):
    model = MODELS[name].fit(DIGITS[TRAIN], LABELS[TRAIN])
    with pytest.raises(ValueError, match=message):
        certify(model, DIGITS[TEST], LABELS[TEST], **params)
