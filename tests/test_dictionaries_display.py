"""Pictures of atoms."""

import matplotlib
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from skrobust.dictionaries import KSVD
from skrobust.displays import DictionaryDisplay
from skrobust.displays.dictionary import mosaic

matplotlib.use("Agg")


class Fitted(BaseEstimator):
    def __init__(self, components, **attributes):
        self.components_ = components
        vars(self).update(attributes)

    def fit(self, X):
        return self


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def test_tiles_of_images():
    X = np.random.default_rng(0).standard_normal((60, 4, 5))
    learner = KSVD(6, n_nonzero_coefs=2, max_iter=2, random_state=0).fit(X)
    display = DictionaryDisplay.from_estimator(learner, X)
    assert display.atoms.shape == (6, 4, 5)
    usage = learner.atom_usage(X)
    assert usage.sum() == learner.transform(X).nnz
    np.testing.assert_array_equal(usage[display.order_], np.sort(usage)[::-1])
    np.testing.assert_array_equal([bar.get_height() for bar in display.usage_ax_.patches], np.sort(usage)[::-1])
    first = learner.components_[display.order_[0]].reshape(4, 5)
    tile = display.ax_.images[0].get_array()[:4, :5]
    np.testing.assert_allclose(tile, 0.5 + 0.5 * first / np.abs(first).max())


def test_positions_of_tiles():
    atoms = np.arange(1.0, 6.0)[:, None, None] * np.ones((5, 2, 3))
    atoms[:, 0, 0] *= -1
    picture = mosaic(atoms)
    assert picture.shape == (3 * 3 - 1, 2 * 4 - 1)  # as near to square as the tiles allow
    np.testing.assert_array_equal(picture[:2, :3], [[0, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(picture[2], 1)
    np.testing.assert_array_equal(picture[6:, 4:], 1)
    assert mosaic(np.zeros((1, 2, 2))).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_colours_and_other_channels():
    atoms = np.random.default_rng(0).standard_normal((4, 2, 2, 3))
    assert mosaic(atoms).shape == (5, 5, 3)
    assert mosaic(atoms[..., :2]).ndim == 2
    flat = Fitted(atoms.reshape(4, 12), patch_size_=(2, 2))
    np.testing.assert_array_equal(DictionaryDisplay.from_estimator(flat).atoms, atoms)
    assert DictionaryDisplay.from_estimator(Fitted(atoms)).atoms is atoms


def test_curves_and_axes_of_the_caller():
    figure, axes = matplotlib.pyplot.subplots(2)
    fitted = Fitted(np.eye(5), atom_usage=lambda X: np.array([1, 5, 2, 4, 3]))
    display = DictionaryDisplay.from_estimator(fitted, np.eye(5), max_atoms=3, ax=axes[0], usage_ax=axes[1])
    assert display.figure_ is figure
    assert sum(len(line.get_xdata()) == 5 for line in display.ax_.lines) == 3
    np.testing.assert_array_equal(display.order_, [1, 3, 4, 2, 0])


def test_refusals():
    with pytest.raises(ValueError, match=r"patch_size=\(2, 4\) holds 8 values, but atoms have 12 features"):
        DictionaryDisplay.from_estimator(Fitted(np.ones((3, 12))), patch_size=(2, 4))
    with pytest.raises(NotFittedError):
        DictionaryDisplay.from_estimator(KSVD())
