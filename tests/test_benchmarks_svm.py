"""The front-end paper's linear attacks, as its authors' program computes them, against those that the scripts use."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import pywt

SCRIPTS = pathlib.Path(__file__).parents[1] / "benchmarks" / "reproduce"
EPS, K = 0.1, 9


@pytest.fixture(scope="module")
def script():
    """The modules of the reproduction, as its script imports them."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        import _linear_svm
        import sparsifying_frontend_svm
    finally:
        sys.path.remove(str(SCRIPTS))
    return sparsifying_frontend_svm, _linear_svm


@pytest.fixture(scope="module")
def images():
    """Threes and sevens of the bundled digits, in float64: training and test images, labels."""
    from skrobust.datasets import load_digits_images

    X, y = load_digits_images(dtype="float64", return_X_y=True)
    chosen = np.isin(y, (3, 7))
    return X[chosen][:250], y[chosen][:250], X[chosen][250:], y[chosen][250:]


class Authors:
    """Their program in dense matrices: images in [-1, 1], the front end inside, one step for all images at once."""

    def __init__(self, wavelet, svm):
        atoms = np.eye(64).reshape(64, 8, 8)
        low, details = pywt.dwt2(atoms, wavelet, mode="periodization")
        self.psi = np.hstack([band.reshape(64, -1) for band in (low, *details)]).T
        self.svm = svm

    def select(self, X):
        """Mask of the K largest coefficients of images in [-1, 1]."""
        magnitudes = np.abs((X + 1) / 2 @ self.psi.T)
        selected = np.zeros(magnitudes.shape, dtype=bool)
        np.put_along_axis(selected, np.argpartition(magnitudes, -K, axis=1)[:, -K:], True, axis=1)
        return selected

    def right(self, X, y):
        coefficients = (X + 1) / 2 @ self.psi.T * self.select(X)
        return self.svm.predict(2 * np.clip(coefficients @ self.psi, 0, 1) - 1) == y

    def projected_weights(self, X):
        return (self.svm.coef_ @ self.psi.T * self.select(X)) @ self.psi

    def attacked(self, X, y):
        """The four attacks of the paper, eps = 0.2 on this scale."""
        away = np.where(y == self.svm.classes_[0], 1, -1)[:, None]

        def move(start, weights, size):
            low, high = np.maximum(X - 2 * EPS, -1), np.minimum(X + 2 * EPS, 1)
            return np.clip(start + size * np.sign(weights) * away, low, high)

        semi = move(X, self.svm.coef_, 2 * EPS)
        white = move(X, self.projected_weights(X), 2 * EPS)
        code, paper = semi, X
        for _ in range(100):
            code = move(X, self.projected_weights(code), 2 * EPS)
            paper = move(paper, self.projected_weights(paper), 2 * 2.5 * EPS / 100)
        return dict(zip(["semi", "white", "paper", "code"], [semi, white, paper, code], strict=True))


@pytest.mark.parametrize("wavelet", ["db2", "coif1"])
def test_published_attacks_equal_the_authors(script, images, wavelet):
    reproduction, shared = script
    X_train, y_train, X, y = images
    front_end = shared.wavelet_front_end(wavelet, (8, 8), K)
    model = shared.linear_svm(front_end, random_state=0, C=0.1).fit(X_train, y_train)
    authors = Authors(wavelet, model[-1])
    scaled = 2 * X - 1
    clean = authors.right(scaled, y)
    np.testing.assert_array_equal(clean, model.predict(X) == y)
    expected = authors.attacked(scaled, y)
    for (label, attack), (name, attacked) in zip(reproduction.PUBLISHED.items(), expected.items(), strict=True):
        ours = model.predict(attack.perturb(model, X, y)) == y
        # The library's attacks leave an image alone that is wrong already; the authors' may mend it.
        np.testing.assert_array_equal(ours, clean & authors.right(attacked, y), err_msg=f"{label}, {name}")
    lost = {name: np.mean(clean & ~authors.right(attacked, y)) for name, attacked in expected.items()}
    assert max(lost.values()) > 0.05  # otherwise the comparison would be empty


def test_undefended_attack_is_optimal(script, images):
    """Against a linear classifier the strongest of all the attacks is the closed form."""
    _, shared = script
    X_train, y_train, X, y = images
    model = shared.linear_svm(random_state=0, C=0.01).fit(X_train, y_train)
    away = np.where(y == model[-1].classes_[0], 1, -1)[:, None]
    worst = np.clip(X + EPS * np.sign(model[-1].coef_) * away, 0, 1)
    right = model.predict(worst) == y
    assert 0 < right.mean() < 1
    for attack in shared.strong_attacks((8, 8), n_restarts=1, n_queries=50):
        ours = model.predict(attack.set_params(eps=EPS).perturb(model, X, y)) == y
        assert not np.any(right & ~ours), attack


@pytest.mark.slow
def test_grid_search(tmp_path):
    command = [sys.executable, str(SCRIPTS / "grid_search_mnist.py"), "--quick", "--n-jobs", "1", "--output", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "wavelet front end” " in done.stdout
    content = json.loads((tmp_path / "grid_search_mnist.json").read_text())
    for task in content["tasks"].values():
        sizes = {name: search["n_settings"] for name, search in task["searches"].items()}
        assert sizes["undefended"] >= sizes["wavelet front end"]
        accuracy = {row["model"]: row["accuracy"] for row in task["report"]["rows"] if row["eps"] == 0.1}
        first = next(one for one in task["differences"] if one["eps"] == 0.1)
        assert first["difference"] == pytest.approx(accuracy["wavelet front end"] - accuracy["undefended"])
    assert (tmp_path / "grid_search_mnist.png").stat().st_size > 10_000
