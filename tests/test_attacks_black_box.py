"""Attacks that only ask: any classifier, scores or labels alone; Square against its authors' description."""

import numpy as np
import pytest
import torch
from attacks_helpers import defended, digits, logistic, margins, network, norm_of, predict
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsOneClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from skrobust.attacks import PGD, Ball, RandomNoise, ScoreModel, Square
from skrobust.attacks.black_box.square import Squares, covered_share, pyramid, pyramids


class LabelsOnly(ClassifierMixin, BaseEstimator):
    """A classifier with `predict` alone."""

    def fit(self, X, y):
        self.inner_ = LogisticRegression(max_iter=1000).fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict(self, X):
        return self.inner_.predict(X)


MODELS = [
    RandomForestClassifier(20, random_state=0),
    KNeighborsClassifier(),
    GaussianNB(),
    SVC(decision_function_shape="ovo"),
    SVC(break_ties=True),
    RidgeClassifier(),
    OneVsOneClassifier(LinearSVC(random_state=0)),
    make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)),
    GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [3, 5]}, cv=2),
    LabelsOnly(),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("attack", [Square(n_iter=60, image_shape=(8, 8)), RandomNoise(n_restarts=20)], ids=str)
def test_any_classifier(model, attack):
    X, y, X_test, y_test = digits()
    names = np.array([f"digit {k}" for k in range(10)])
    model, y = model.fit(X[:600], names[y[:600]]), names[y_test[:60]]
    X = X_test[:60]
    X_adv = attack.set_params(eps=0.3, random_state=0).perturb(model, X, y)
    assert np.all(norm_of(X_adv - X, "linf") <= 0.3)
    before, after = model.predict(X) == y, model.predict(X_adv) == y
    np.testing.assert_array_equal(X_adv[~before], X[~before])
    assert not np.any(after & ~before)
    assert after.mean() < before.mean()


@pytest.mark.parametrize("threshold", [0.1, 0.9])
def test_success_is_decided_by_predict(threshold):
    """A classifier with its own threshold: the class of the largest probability is not the prediction."""
    X, y, X_test, y_test = digits()
    model = FixedThresholdClassifier(LogisticRegression(C=0.01), threshold=threshold, response_method="predict_proba")
    model.fit(X[y < 2], y[y < 2])
    images = X_test[y_test < 2]
    scores = ScoreModel(model, torch.tensor(images)).scores(torch.tensor(images)).numpy()
    np.testing.assert_array_equal(scores.argmax(axis=1), model.predict(images))
    assert np.mean(model.predict_proba(images).argmax(axis=1) == model.predict(images)) < 1


def test_ties_are_broken_as_predict_does():
    X, y, _, _ = digits()
    model = KNeighborsClassifier(n_neighbors=2).fit(X[:200], y[:200])
    proba = model.predict_proba(X[200:])
    tied = np.sum(proba == proba.max(axis=1, keepdims=True), axis=1) > 1
    assert tied.any()
    scores = ScoreModel(model, torch.tensor(X[200:300])).scores(torch.tensor(X[200:])).numpy()
    np.testing.assert_array_equal(scores.argmax(axis=1), model.predict(X[200:]))


def test_scores_are_those_of_the_model():
    X, y, X_test, _ = digits()
    boosted = GradientBoostingClassifier(n_estimators=2, max_depth=2).fit(X[:300], y[:300])
    scores = ScoreModel(boosted, torch.tensor(X_test)).scores(torch.tensor(X_test))
    np.testing.assert_allclose(scores, boosted.decision_function(X_test), atol=1e-8)
    binary = LinearSVC().fit(X[y < 2], y[y < 2])
    scores = ScoreModel(binary, torch.tensor(X_test)).scores(torch.tensor(X_test)).numpy()
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], binary.decision_function(X_test))


# --- Square -----------------------------------------------------------------------------------------------------


def test_schedule_of_the_squares():
    """The paper's halvings, at 10 000 queries, stretched and not."""
    shares = [covered_share(query, 10000) for query in (0, 10, 11, 50, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)]
    np.testing.assert_allclose(shares, 0.8 / 2.0 ** np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]))
    assert covered_share(6, 1000) == 0.8 / 4
    assert covered_share(6, 1000, rescale_schedule=False) == 0.8
    assert Squares((28, 28), 1).side(0.8) == (25, 25)
    assert Squares((28, 28), 1).side(1e-6) == (1, 1)
    assert Squares((1, 64), 1).side(0.5) == (1, 32)


def test_pyramids_against_the_authors_loop():
    def reference(height, width):
        delta = np.zeros((height, width))
        rows, columns = height // 2 + 1, width // 2 + 1
        corner = [rows - 1, columns - 1]
        for k in range(max(rows, columns)):
            delta[
                max(corner[0], 0) : min(corner[0] + 2 * k + 1, height),
                max(0, corner[1]) : min(corner[1] + 2 * k + 1, width),
            ] += 1.0 / (k + 1) ** 2
            corner[0] -= 1
            corner[1] -= 1
        return delta / np.sqrt((delta**2).sum())

    for height, width in [(1, 3), (2, 5), (3, 3), (7, 4)]:
        np.testing.assert_allclose(pyramid(height, width), reference(height, width))
    upright, flat = pyramids((5, 5))
    np.testing.assert_allclose(upright, flat.T)
    assert np.linalg.norm(upright) == pytest.approx(1) and np.sign(upright[0, 2]) != np.sign(upright[-1, 2])


def test_square_moves_pixels_to_the_ends_of_the_ball():
    net, X, y = network()
    X_adv = Square(eps=0.05, n_iter=30, random_state=0).perturb(net, X, y)
    moved = np.any(X_adv != X, axis=(1, 2))
    assert moved.mean() > 0.5
    ends = (np.clip(X.astype(np.float64) - 0.05, 0, 1), np.clip(X.astype(np.float64) + 0.05, 0, 1))
    distance = np.minimum(*(abs(X_adv - end) for end in ends))
    assert distance[moved].max() < 1e-6


@pytest.mark.parametrize("n_channels, side", [(1, (1, 1)), (3, (1, 1)), (1, (2, 2))])
def test_every_square_changes_the_image(n_channels, side):
    rng = np.random.default_rng(0)
    ball = Ball(torch.tensor(rng.random((50, 6, 6, n_channels))), 0.1, "linf", (torch.tensor(0.0), torch.tensor(1.0)))
    squares = Squares((6, 6), n_channels)
    x = squares.start(ball, torch.tensor(rng.random((50, *squares.start_shape))))
    for _ in range(20):
        changed = squares.change(ball, x, side, torch.tensor(rng.random((50, squares.n_draws))))
        moved = (changed != x).flatten(1)
        assert moved.any(1).all() and moved.sum(1).max() <= np.prod(side) * n_channels
        assert bool(((changed == ball.low) | (changed == ball.high)).all())
        x = changed


def test_each_image_has_its_own_squares():
    """The same image twice in a batch is attacked by different squares."""
    net, X, y = network()
    right = np.flatnonzero(predict(net, X) == y)[0]
    twice = Square(eps=0.02, n_iter=20, random_state=0).perturb(net, X[[right, right]], y[[right, right]])
    assert np.any(twice[0] != twice[1])


def test_colour_and_one_dimensional_signals():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(60, 6, 6, 3))
    y = (X[..., 0].mean(axis=(1, 2)) > X[..., 1].mean(axis=(1, 2))).astype(int)

    class Flat(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.inner_ = LogisticRegression(C=100).fit(X.reshape(len(X), -1), y)
            self.classes_ = self.inner_.classes_
            return self

        def decision_function(self, X):
            return self.inner_.decision_function(X.reshape(len(X), -1))

        def predict(self, X):
            return self.inner_.predict(X.reshape(len(X), -1))

    model = Flat().fit(X, y)
    for norm, eps in (("linf", 0.2), ("l2", 1.0)):
        attack = Square(eps=eps, norm=norm, n_iter=400, random_state=0)
        coloured = attack.perturb(model, X, y)
        assert np.mean(model.predict(coloured) == y) < 0.5 < np.mean(model.predict(X) == y)
        signals = attack.perturb(model.inner_, X.reshape(60, -1), y)
        assert model.inner_.score(signals, y) < model.inner_.score(X.reshape(60, -1), y)
    with pytest.raises(ValueError, match="image_shape"):
        Square(image_shape=(5, 5)).perturb(model.inner_, X.reshape(60, -1), y)


@pytest.mark.parametrize("norm, eps, gap", [("linf", 0.1, 0.08), ("l2", 0.5, 0.25)])
def test_square_comes_near_the_white_box(norm, eps, gap):
    net, X, y = network()
    white = np.mean(predict(net, PGD(eps=eps, norm=norm, n_restarts=2, random_state=0).perturb(net, X, y)) == y)
    black = np.mean(predict(net, Square(eps=eps, norm=norm, n_iter=500, random_state=0).perturb(net, X, y)) == y)
    noise = np.mean(
        predict(net, RandomNoise(eps=eps, norm=norm, n_restarts=50, random_state=0).perturb(net, X, y)) == y
    )
    assert white <= black <= white + gap < noise


def test_square_breaks_a_front_end_without_gradients():
    model, X, y = defended("logistic")
    X, y = X[:80], y[:80]
    accuracy = model.score(Square(eps=0.1, n_iter=200, image_shape=(8, 8), random_state=0).perturb(model, X, y), y)
    assert accuracy < model.score(RandomNoise(eps=0.1, n_restarts=200, random_state=0).perturb(model, X, y), y)


def test_targeted_square():
    model, X, y = logistic()
    right = model.predict(X) == y
    X, y = X[right][:50], y[right][:50]
    target = (y + 1) % 10
    X_adv = Square(eps=0.3, n_iter=300, image_shape=(8, 8), random_state=0).perturb(model, X, y, y_target=target)
    assert np.mean(model.predict(X_adv) == target) > 0.3
    assert np.all(margins(model, X_adv, target) <= margins(model, X, target) + 1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_channels_first_networks_get_the_same_squares(norm):
    """Square reads torch's layout: no rows of 1 x 8 pixels with 8 channels, whose squares would be weaker."""
    torch.manual_seed(0)
    X = torch.rand(12, 8, 8, 3, dtype=torch.float64)
    first = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5))
    first = first.double()

    class Last(torch.nn.Module):
        def forward(self, x):
            return first(x.permute(0, 3, 1, 2))

    y = Last()(X).argmax(1).numpy()
    attack = Square(eps=0.3, norm=norm, n_iter=60, random_state=0)
    on_last = attack.perturb(Last(), X, y)
    on_first = attack.perturb(first, X.permute(0, 3, 1, 2), y)
    assert not torch.equal(on_last, X)
    torch.testing.assert_close(on_first.permute(0, 2, 3, 1), on_last)
