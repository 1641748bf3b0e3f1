"""`PatchDictionaryDenoiser`: patches, pursuit and averages against slow references; scikit-learn's contract."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import clone, config_context
from sklearn.datasets import load_digits
from sklearn.feature_extraction.image import extract_patches_2d, reconstruct_from_patches_2d
from sklearn.linear_model import orthogonal_mp_gram
from sklearn.utils.estimator_checks import parametrize_with_checks

from skrobust import PatchDictionaryDenoiser
from skrobust.dictionaries import KSVD, OnlineDictionaryLearning
from skrobust.estimators.patch.grid import PatchGrid

DIGITS = load_digits().images / 16


@parametrize_with_checks(
    [
        PatchDictionaryDenoiser(),
        PatchDictionaryDenoiser(3, patch_size=2, dictionary="dct", noise_std=0.5, image_weight=1.0, clip=(-9, 9)),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# Patches.


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    patch=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    n_channels=st.sampled_from([1, 3]),
)
def test_patches_cover_every_pixel(height, width, patch, stride, n_channels):
    stride = tuple(min(s, p) for s, p in zip(stride, patch, strict=True))
    grid = PatchGrid((height, width), n_channels, patch, stride)
    ph, pw = grid.size
    covered = np.zeros((height, width), int)
    images = np.random.default_rng(0).random((2, height, width, n_channels))
    patches = grid.extract(images, np.arange(2 * grid.n_patches)).reshape(2, len(grid.tops), len(grid.lefts), -1)
    for i, top in enumerate(grid.tops):
        for j, left in enumerate(grid.lefts):
            covered[top : top + ph, left : left + pw] += 1
            expected = images[:, top : top + ph, left : left + pw].reshape(2, -1)
            np.testing.assert_array_equal(patches[:, i, j], expected)
    assert covered.min() >= 1
    np.testing.assert_array_equal(grid.coverage, covered)
    assert grid.size == (min(height, patch[0]), min(width, patch[1]))


def test_patches_are_those_of_scikit_learn():
    image = np.random.default_rng(0).random((9, 7, 3))
    grid = PatchGrid((9, 7), 3, (4, 3), 1)
    ours = grid.extract(image[None], np.arange(grid.n_patches))
    np.testing.assert_array_equal(ours, extract_patches_2d(image, (4, 3)).reshape(len(ours), -1))


# What is computed.


def slowly(images, components, size, *, k=None, tol=None, remove_mean=True):
    """Stride 1, by scikit-learn: patches, Gram, OMP, averages."""
    cleaned = []
    for image in images:
        patches = extract_patches_2d(image, size)
        rows = patches.reshape(len(patches), -1, 1 if image.ndim == 2 else image.shape[2])
        means = rows.mean(axis=1, keepdims=True) * remove_mean
        rows = (rows - means).reshape(len(patches), -1)
        norms = np.linalg.norm(components, axis=1)
        unit = components / norms[:, None]
        codes = np.zeros((len(rows), len(unit)))
        for row, code in zip(rows, codes, strict=True):
            if tol is None:
                code[:] = orthogonal_mp_gram(unit @ unit.T, unit @ row, n_nonzero_coefs=k)
            elif row @ row > tol**2:
                norms = [row @ row]
                code[:] = orthogonal_mp_gram(
                    unit @ unit.T, unit @ row[:, None], tol=tol**2, norms_squared=norms
                ).ravel()
        rebuilt = (codes @ unit).reshape(len(rows), -1, means.shape[2]) + means
        cleaned.append(reconstruct_from_patches_2d(rebuilt.reshape(patches.shape), image.shape))
    return np.array(cleaned)


@pytest.mark.filterwarnings("ignore:.*Orthogonal matching pursuit ended:RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("shape", "size", "rule", "remove_mean"),
    [
        ((2, 20, 17), (8, 8), {"k": 3}, True),
        ((2, 20, 17), (8, 8), {"tol": 1.1}, True),
        ((2, 12, 13), (4, 5), {"tol": 0.8}, False),
        ((2, 12, 13, 3), (3, 4), {"k": 2}, True),
        ((2, 12, 13, 3), (3, 4), {"tol": 0.9}, False),
    ],
)
def test_against_scikit_learn(shape, size, rule, remove_mean, dtype):
    rng = np.random.default_rng(0)
    images = rng.random(shape)
    n_features = int(np.prod(size)) * (shape[3] if len(shape) == 4 else 1)
    components = rng.normal(size=(40, n_features)) * rng.uniform(0.1, 9, size=(40, 1))
    expected = slowly(images, components, size, remove_mean=remove_mean, **rule)
    noise = rule.get("tol")
    denoiser = PatchDictionaryDenoiser(
        patch_size=size,
        dictionary=components,
        n_nonzero_coefs=rule.get("k"),
        noise_std=None if noise is None else noise / 1.15 / np.sqrt(n_features),
        remove_mean=remove_mean,
    )
    cleaned = denoiser.fit_transform(images.astype(dtype))
    assert cleaned.dtype == dtype
    np.testing.assert_allclose(cleaned, expected, atol=1e-10 if dtype is np.float64 else 2e-4)


def test_an_image_of_many_bands():
    rng = np.random.default_rng(0)
    image = rng.random((1, 90, 300))
    denoiser = PatchDictionaryDenoiser(dictionary=rng.normal(size=(30, 64)), n_nonzero_coefs=2, n_jobs=1).fit(image)
    whole = denoiser.transform(image)
    np.testing.assert_array_equal(denoiser.set_params(n_jobs=2).transform(image), whole)
    expected = slowly(image[:, 40:70, 120:150], denoiser.components_, (8, 8), k=2)
    np.testing.assert_allclose(whole[0, 48:62, 128:142], expected[0, 8:22, 8:22], atol=1e-10)


@given(
    shape=st.sampled_from([(9,), (30,), (6, 7), (5, 4, 2), (9, 9, 3)]),
    patch_size=st.integers(1, 6),
    stride=st.integers(1, 6),
    weight=st.sampled_from([0.0, 0.7]),
)
@settings(max_examples=20)
def test_a_complete_dictionary_gives_the_image_back(shape, patch_size, stride, weight):
    X = np.random.default_rng(0).random((3, *shape)).reshape(3, -1)
    n_channels = shape[2] if len(shape) == 3 else 1
    n_features = int(np.prod([min(patch_size, size) for size in shape[:2]])) * n_channels
    denoiser = PatchDictionaryDenoiser(
        patch_size=patch_size,
        stride=min(stride, patch_size),
        noise_std=0.0,
        image_weight=weight,
        dictionary=np.random.default_rng(1).normal(size=(n_features + 3, n_features)),
        remove_mean=False,
        image_shape=None if len(shape) == 1 else shape,
    )
    np.testing.assert_allclose(denoiser.fit_transform(X), X, atol=1e-6)


def test_the_image_has_its_weight_in_the_average():
    X = np.random.default_rng(0).random((2, 10, 11))
    plain = PatchDictionaryDenoiser(patch_size=4, dictionary="dct", n_nonzero_coefs=2, stride=2).fit(X)
    weighted = clone(plain).set_params(image_weight=1.5).fit(X)
    coverage = PatchGrid((10, 11), 1, 4, 2).coverage
    expected = (plain.transform(X) * coverage + 1.5 * X) / (coverage + 1.5)
    np.testing.assert_allclose(weighted.transform(X), expected, atol=1e-12)
    clipped = clone(weighted).set_params(clip=(0.4, 0.6)).fit(X).transform(X)
    np.testing.assert_allclose(clipped, expected.clip(0.4, 0.6), atol=1e-12)


def test_patches_within_the_noise_become_their_means():
    X = 0.5 + 0.01 * np.random.default_rng(0).standard_normal((1, 20, 20))
    denoiser = PatchDictionaryDenoiser(noise_std=0.1, dictionary="dct").fit(X)
    means = np.ones((1, 64)) / 64
    expected = slowly(X, means, (8, 8), k=1, remove_mean=False)
    np.testing.assert_allclose(denoiser.transform(X), expected, atol=1e-12)
    assert denoiser.atom_usage(X).sum() == 0


def test_atom_usage_counts_codes():
    denoiser = PatchDictionaryDenoiser(patch_size=4, dictionary="dct", n_nonzero_coefs=3).fit(DIGITS)
    X = np.random.default_rng(0).random((3, 8, 8))
    assert denoiser.atom_usage(X).sum() == 3 * 25 * 3
    with config_context(working_memory=1e-3):
        np.testing.assert_array_equal(denoiser.atom_usage(X), denoiser.atom_usage(X.reshape(3, -1)))


def test_batches_and_threads_change_nothing():
    X = np.random.default_rng(0).random((40, 10, 10)).astype(np.float32)
    denoiser = PatchDictionaryDenoiser(20, patch_size=4, n_nonzero_coefs=2, random_state=0, n_jobs=1).fit(X)
    expected = denoiser.transform(X)
    with config_context(working_memory=0.01):
        np.testing.assert_array_equal(denoiser.transform(X), expected)
    threads = clone(denoiser).set_params(n_jobs=2).fit(X)
    np.testing.assert_array_equal(threads.components_, denoiser.components_)
    np.testing.assert_array_equal(threads.transform(X), expected)


def test_arrays_of_all_kinds():
    X = np.random.default_rng(0).random((4, 12, 10))
    denoiser = PatchDictionaryDenoiser(patch_size=4, dictionary="dct").fit(X)
    expected = denoiser.transform(X)
    before = X.copy()
    X.setflags(write=False)
    np.testing.assert_array_equal(denoiser.transform(X), expected)
    np.testing.assert_array_equal(denoiser.transform(np.asfortranarray(X)), expected)
    np.testing.assert_array_equal(denoiser.transform(np.repeat(X, 2, axis=2)[:, :, ::2]), expected)
    np.testing.assert_array_equal(X, before)


def test_patches_are_never_stored_at_once():
    code = """
import resource, numpy as np
from skrobust import PatchDictionaryDenoiser
X = np.random.default_rng(0).random((1, 1200, 1200))
denoiser = PatchDictionaryDenoiser(16, dictionary="dct", n_nonzero_coefs=1).fit(X)
PatchDictionaryDenoiser(16, dictionary="dct", n_nonzero_coefs=1).fit_transform(X[:, :16, :16])  # compiles
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
denoiser.transform(X)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / X.nbytes * 1024)
"""
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(grown.stdout) < 10  # times the image; all its patches are 64 times as large


@pytest.mark.slow
def test_plain_numba_does_the_same():
    code = (
        "import numpy as np; from skrobust import PatchDictionaryDenoiser;"
        "X = np.random.default_rng(0).random((2, 9, 10, 3));"
        "d = PatchDictionaryDenoiser(20, patch_size=(3, 4), dictionary='dct', noise_std=0.1).fit(X);"
        "print(d.transform(X).ravel().round(9).tolist())"
    )
    results = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "SKROBUST_EXPLICIT_VECTORS": explicit},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for explicit in "01"
    ]
    assert results[0] == results[1]


# Dictionaries.


def test_denoises_with_a_learned_dictionary():
    rng = np.random.default_rng(0)
    clean = DIGITS[:300]
    noisy = DIGITS[300:360] + 0.2 * rng.standard_normal((60, 8, 8))
    learned = PatchDictionaryDenoiser(40, patch_size=6, noise_std=0.2, random_state=0).fit(clean)
    random = PatchDictionaryDenoiser(patch_size=6, noise_std=0.2, dictionary=rng.normal(size=(40, 36))).fit(clean)
    errors = [np.mean((d.transform(noisy) - DIGITS[300:360]) ** 2) for d in (learned, random)]
    assert errors[0] < 0.7 * 0.2**2
    assert errors[0] < errors[1]
    assert learned.components_.shape == (40, 36)
    again = clone(learned).fit(clean)
    np.testing.assert_array_equal(again.components_, learned.components_)


def test_a_stream_of_images():
    stream = PatchDictionaryDenoiser(30, patch_size=5, n_nonzero_coefs=2, random_state=0)
    errors = []
    for part in np.array_split(DIGITS[:600], 6):
        stream.partial_fit(part)
        errors.append(np.mean((stream.transform(DIGITS[600:700]) - DIGITS[600:700]) ** 2))
    assert errors[-1] < errors[0]
    with pytest.raises(ValueError, match="samples of shape"):
        stream.partial_fit(DIGITS[:5, :7])
    fixed = PatchDictionaryDenoiser(dictionary="dct", patch_size=5).partial_fit(DIGITS[:5])
    np.testing.assert_array_equal(fixed.components_, clone(fixed).fit(DIGITS).components_)


def test_learners_of_all_kinds():
    noisy = DIGITS[:2] + 0.1 * np.random.default_rng(0).standard_normal((2, 8, 8))
    online = OnlineDictionaryLearning(7, n_nonzero_coefs=2, max_iter=2)
    given = PatchDictionaryDenoiser(20, patch_size=4, learner=online, random_state=0).fit(DIGITS[:50])
    assert given.learner_.n_components == 20
    assert given.learner_.image_shape == (4, 4, 1)
    assert online.n_components == 7
    of_learner = PatchDictionaryDenoiser(patch_size=4, learner=online, random_state=0).fit(DIGITS[:50])
    assert of_learner.components_.shape == (7, 16)
    ksvd = PatchDictionaryDenoiser(20, patch_size=4, learner=KSVD(n_nonzero_coefs=2, max_iter=2), random_state=0)
    with pytest.raises(TypeError, match="has no partial_fit: use skrobust.dictionaries.OnlineDictionaryLearning"):
        ksvd.partial_fit(DIGITS[:50])
    own = PatchDictionaryDenoiser(20, patch_size=4, dictionary="image", noise_std=0.1, random_state=0).fit(noisy)
    cleaned = own.transform(noisy)
    assert np.mean((cleaned - DIGITS[:2]) ** 2) < np.mean((noisy - DIGITS[:2]) ** 2)
    np.testing.assert_array_equal(own.transform(noisy[1:]), cleaned[1:])  # each image learns for itself
    tol = float(1.15 * 0.1 * 4)
    first = KSVD(20, init="dct", residual_tol=tol, max_iter=10, tol=0)
    trained = PatchDictionaryDenoiser(patch_size=4, noise_std=0.1, learner=first).fit(noisy[:1])
    np.testing.assert_allclose(trained.transform(noisy[:1]), cleaned[:1], atol=1e-12)
    with pytest.raises(ValueError, match="one dictionary for all images"):
        own.atom_usage(noisy)


def test_learns_from_no_more_patches_than_allowed():
    class Counts(OnlineDictionaryLearning):
        def fit(self, X, y=None):
            self.shape = X.shape
            return super().fit(X)

    few = PatchDictionaryDenoiser(8, patch_size=4, learner=Counts(max_iter=1), max_patches=100, random_state=0)
    n, d = few.fit(DIGITS).learner_.shape
    assert 50 < n <= 100
    assert d == 16


@pytest.mark.parametrize(
    ("parameters", "X", "message"),
    [
        ({"stride": 5, "patch_size": 4}, np.ones((2, 8, 8)), "stride=5 leaves pixels between patches of patch_size=4"),
        ({"patch_size": (2, 2, 2)}, np.ones((2, 8, 8)), "patch_size must be an integer >= 1, or one for each of the 2"),
        ({"patch_size": 0}, np.ones((2, 8, 8)), "patch_size"),
        ({"dictionary": np.ones((4, 9))}, np.ones((2, 8, 8)), "atoms of 9 values, but patches of .* have 64"),
        ({"dictionary": np.eye(64), "n_components": 5}, np.ones((2, 8, 8)), "dictionary has 64 atoms, but n_comp"),
        ({"dictionary": np.eye(64) * np.nan}, np.ones((2, 8, 8)), "dictionary contains NaN"),
        ({"dictionary": "sine"}, np.ones((2, 8, 8)), "dictionary"),
        ({"dictionary": np.eye(64), "n_nonzero_coefs": 65}, np.ones((2, 8, 8)), "n_nonzero_coefs=65 is more than"),
        ({"dictionary": "image", "n_nonzero_coefs": 65}, np.ones((2, 8, 8)), "n_nonzero_coefs=65 is more than"),
        ({"noise_std": -1}, np.ones((2, 8, 8)), "noise_std"),
        ({"gain": 0}, np.ones((2, 8, 8)), "gain"),
        ({"image_weight": -1}, np.ones((2, 8, 8)), "image_weight"),
        ({"clip": (1, 0)}, np.ones((2, 8, 8)), "clip must be None or"),
        ({"learner": 3}, np.ones((2, 8, 8)), "learner"),
        ({"dictionary": "dct", "n_jobs": 0}, np.ones((2, 8, 8)), "n_jobs must be None or an integer other than 0"),
    ],
)
def test_bad_parameters(parameters, X, message):
    with pytest.raises(ValueError, match=message):
        PatchDictionaryDenoiser(**parameters).fit(X).transform(X)


def test_names_and_containers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(DIGITS[:5].reshape(5, -1), columns=[f"pixel{i}" for i in range(64)])
    model = PatchDictionaryDenoiser(patch_size=4, dictionary="dct", image_shape=(8, 8)).set_output(transform="pandas")
    cleaned = model.fit(frame).transform(frame)
    assert list(cleaned.columns) == list(frame.columns) == list(model.get_feature_names_out())
    copy = pickle.loads(pickle.dumps(model))
    pandas.testing.assert_frame_equal(copy.transform(frame), cleaned)
    as_images = PatchDictionaryDenoiser(patch_size=4, dictionary="dct").fit(DIGITS[:5])
    np.testing.assert_array_equal(as_images.transform(DIGITS[:5]).reshape(5, -1), cleaned)
    assert model.patch_size_ == (4, 4)
    assert model.n_patches_ == 25
