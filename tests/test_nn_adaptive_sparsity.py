"""`AdaptiveSparsity`: the sparsity of codes follows the residual of each image."""

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from skrobust import AdaptiveSparsity, ConvSparseCoder, WaveletSparsifier, as_module
from skrobust.attacks import PGD
from skrobust.estimators import sparsity_sweep
from skrobust.evaluation import Corruption, corrupt, corruption_levels
from skrobust.nn import CSCLayer, ImageNetwork

X, Y = load_digits(return_X_y=True)
X = X / 16
IMAGES = X.reshape(-1, 8, 8)
TRAIN, TEST = slice(0, 600), slice(600, 700)


class Noise(BaseEstimator):
    """Gaussian noise on values of any range."""

    def __init__(self, scale):
        self.scale = scale

    def perturb(self, model, X, y=None):
        return X + np.random.default_rng(0).normal(scale=self.scale, size=X.shape).astype(X.dtype)


NOISE = [Noise(0.1), Noise(0.3), Noise(0.5)]


def coder_pipeline(pursuit="bp", output="reconstruction", **options):
    coder = ConvSparseCoder(
        n_components=6, kernel_size=4, alpha=0.05, pursuit=pursuit, output=output, n_epochs=1, random_state=0,
        image_shape=(8, 8), tol=1e-9, **options,
    )  # fmt: skip
    return make_pipeline(coder, LogisticRegression(max_iter=300))


def wavelet_pipeline():
    return make_pipeline(
        WaveletSparsifier("haar", n_nonzero_coefs=0.5, image_shape=(8, 8)), LogisticRegression(max_iter=300)
    )


@pytest.fixture(scope="module")
def network():
    """A small SDNet on digits, trained."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        CSCLayer(1, 8, 3, padding=1, alpha=0.1, n_iter=3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    net = ImageNetwork(layers)
    images, labels = torch.tensor(IMAGES[TRAIN], dtype=torch.float32), torch.tensor(Y[TRAIN])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def fitted():
    options = {"max_samples": 150, "random_state": 0}
    return {
        "coder": AdaptiveSparsity(coder_pipeline(), NOISE, param_range=[0.05, 0.2, 0.5], **options).fit(
            X[TRAIN], Y[TRAIN]
        ),
        "wavelet": AdaptiveSparsity(wavelet_pipeline(), NOISE, **options).fit(X[TRAIN], Y[TRAIN]),
    }


@parametrize_with_checks(
    [
        AdaptiveSparsity(
            make_pipeline(WaveletSparsifier("haar", n_nonzero_coefs=0.9), LogisticRegression()),
            [Noise(0.1)],
            param_range=[0.3, 0.9],
            random_state=0,
        )
    ],
    expected_failed_checks=lambda estimator: {},
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", ["coder", "wavelet"])
def test_sparsities_follow_the_noise(fitted, name):
    model = fitted[name]
    clean = model.sparsities(X[TEST])
    noisy = model.sparsities(NOISE[-1].perturb(None, X[TEST]))
    assert clean.shape == (100,)
    assert np.all((clean >= model.values_.min()) & (clean <= model.values_.max()))
    sign = np.sign(model.line()[1])
    if name == "coder":
        assert sign == 1
    assert sign * (noisy.mean() - clean.mean()) > 0


@pytest.mark.parametrize("name", ["coder", "wavelet"])
def test_each_image_is_coded_with_its_own_sparsity(fitted, name):
    """Against the classifier itself, set to the sparsity of one image at a time."""
    model = fitted[name]
    step, parameter = (("convsparsecoder", "alpha"), ("waveletsparsifier", "n_nonzero_coefs"))[name == "wavelet"]
    noisy = NOISE[1].perturb(None, X[TEST])[:6]
    decisions, sparsities = model.decision_function(noisy), model.sparsities(noisy)
    assert len(set(sparsities)) > 1
    reference = model.estimator_
    before = reference.get_params()[f"{step}__{parameter}"]
    try:
        for image, sparsity, decision in zip(noisy, sparsities, decisions, strict=True):
            reference.set_params(**{f"{step}__{parameter}": float(sparsity)})
            np.testing.assert_allclose(reference.decision_function(image[None])[0], decision, atol=1e-5)
    finally:
        reference.set_params(**{f"{step}__{parameter}": before})
    assert model.estimator_.get_params()[f"{step}__{parameter}"] == before


@pytest.mark.parametrize("pursuit", ["bp", "thresholding"])
@pytest.mark.parametrize("output", ["code", "reconstruction"])
def test_residuals_are_those_of_the_codes(pursuit, output):
    pipeline = coder_pipeline(pursuit, output).fit(X[TRAIN], Y[TRAIN])
    sweep = sparsity_sweep(pipeline, X[TEST], Y[TEST], [None], param_range=[0.05, 0.1])
    coder = pipeline[0]
    codes = coder.set_params(output="code").transform(X[TEST])
    residual = X[TEST] - coder.inverse_transform(codes)
    np.testing.assert_allclose(sweep.residuals, np.sqrt((residual**2).mean(1)).mean(), rtol=1e-6)
    coder.set_params(output=output)
    assert sweep.accuracy[0, 0] == pipeline.score(X[TEST], Y[TEST])
    coder.set_params(alpha=0.1)
    assert sweep.accuracy[0, 1] == pipeline.score(X[TEST], Y[TEST])


def test_line_is_least_squares_over_levels(fitted):
    sweep = fitted["coder"].sweeps_["corruption"]
    design = np.stack([np.ones(4), sweep.residuals], axis=1)
    expected = np.linalg.lstsq(design, sweep.best, rcond=None)[0]
    np.testing.assert_allclose(fitted["coder"].line(), expected)
    assert np.all(np.diff(sweep.residuals) > 0)
    for row, best in zip(sweep.accuracy, sweep.best, strict=True):
        assert row[sweep.values == best] == row.max()


def test_one_line_per_kind_and_one_for_all():
    kinds = {"gaussian": [Noise(0.2), Noise(0.4)], "weak": [Noise(0.05), Noise(0.1)]}
    model = AdaptiveSparsity(wavelet_pipeline(), kinds, max_samples=100, random_state=0).fit(X[TRAIN], Y[TRAIN])
    lines = {}
    for kind in (None, "gaussian", "weak"):
        lines[kind] = model.set_params(kind=kind).line()
    assert len(set(lines.values())) == 3
    with pytest.raises(ValueError, match="kind='fog' was not fitted"):
        model.set_params(kind="fog").predict(X[:2])


def test_whole_batch_has_one_sparsity(fitted):
    model = clone(fitted["wavelet"]).set_params(batch="all").fit(X[TRAIN], Y[TRAIN])
    per_image = fitted["wavelet"]
    mixed = np.concatenate([X[TEST], NOISE[-1].perturb(None, X[TEST])])
    assert len(np.unique(model.sparsities(mixed))) == 1
    assert model.sparsities(X[TEST])[0] != model.sparsities(mixed)[0]  # transductive
    np.testing.assert_array_equal(per_image.sparsities(mixed)[:100], per_image.sparsities(X[TEST]))


def test_module_predicts_as_the_estimator(fitted):
    for model in fitted.values():
        module = as_module(model)
        noisy = NOISE[1].perturb(None, X[TEST])
        np.testing.assert_array_equal(module.predict(torch.tensor(noisy)), model.predict(noisy))
        with torch.no_grad():
            proba = module.predict_proba(torch.tensor(noisy)).numpy()
        np.testing.assert_allclose(proba, model.predict_proba(noisy), atol=1e-8)
        np.testing.assert_allclose(model.predict_proba(noisy).sum(1), 1)


def test_network_gets_sparsities_and_keeps_its_own(network):
    images = IMAGES.astype(np.float32)
    model = AdaptiveSparsity(network, NOISE, prefit=True, max_samples=300, random_state=0).fit(images[TRAIN], Y[TRAIN])
    assert model.values_[0] == pytest.approx(0.1)
    assert network.network[0].alpha == 0.1
    noisy = NOISE[-1].perturb(None, images[TEST])
    assert model.sparsities(noisy).mean() > model.sparsities(images[TEST]).mean()
    plain = (as_module(network).predict(torch.tensor(noisy)) == Y[TEST]).mean()
    assert model.score(noisy, Y[TEST]) >= plain
    assert model.score(images[TEST], Y[TEST]) > 0.7


def test_gradient_goes_through_the_sparsity(network):
    """Finite differences of the whole, in float64; without the way through the sparsity they would differ."""
    from copy import deepcopy

    double = deepcopy(network).double()
    model = AdaptiveSparsity(double, NOISE, prefit=True, max_samples=200, random_state=0).fit(IMAGES[TRAIN], Y[TRAIN])
    module = as_module(model)
    x = torch.tensor(NOISE[1].perturb(None, IMAGES[600:602]), requires_grad=True)
    direction = torch.tensor(np.random.default_rng(1).normal(size=x.shape))
    weights = torch.tensor(np.random.default_rng(2).normal(size=(2, 10)))
    step = 1e-6

    def value(images):
        return float((module(images) * weights).sum())

    (gradient,) = torch.autograd.grad((module(x) * weights).sum(), x)
    with torch.no_grad():
        slope = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-4)

    with torch.no_grad():
        sparsities = module.step.sparsities(x)
    low, high = module.step.range
    assert bool(((sparsities > low) & (sparsities < high)).all())  # not at a bound, where the derivative is 0
    with module.step.sparse.set_to(sparsities):
        (detached,) = torch.autograd.grad((module.step.inner(x) * weights).sum(), x)
    assert abs(float(((gradient - detached) * direction).sum())) > 1e-3 * abs(slope)


def test_gradient_through_a_coder(fitted):
    module = as_module(fitted["coder"])
    x = torch.tensor(X[600:602] + 0.01, requires_grad=True)
    direction = torch.tensor(np.random.default_rng(1).normal(size=x.shape))
    weights = torch.tensor(np.random.default_rng(2).normal(size=(2, 10)))
    (gradient,) = torch.autograd.grad((module(x) * weights).sum(), x)
    with torch.no_grad():
        step = 1e-4
        ends = [(module(x + sign * step * direction) * weights).sum() for sign in (1, -1)]
    assert float((gradient * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-2)


def test_white_box_attack_goes_through(fitted, network):
    images = IMAGES.astype(np.float32)
    sdnet = AdaptiveSparsity(network, NOISE, prefit=True, max_samples=200, random_state=0).fit(images[TRAIN], Y[TRAIN])
    attack = PGD(eps=0.3, n_iter=5, random_state=0)
    for model, given in ((fitted["coder"], X), (sdnet, images)):
        attacked = attack.perturb(model, given[TEST][:20], Y[TEST][:20])
        assert model.score(attacked, Y[TEST][:20]) < model.score(given[TEST][:20], Y[TEST][:20]) - 0.3


@pytest.mark.parametrize("gradient", ["identity", "projection", "smooth", "skip"])
def test_gradient_modes(fitted, gradient):
    module = as_module(fitted["coder"], gradient=gradient)
    x = torch.tensor(X[600:603], requires_grad=True)
    module(x).sum().backward()
    assert bool(torch.isfinite(x.grad).all())


def test_labels_of_test_images_are_refused(fitted):
    with pytest.raises(ValueError, match="predict takes no labels"):
        fitted["wavelet"].predict(X[TEST], Y[TEST])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruptions": None}, "corruptions must be a sequence of objects"),
        ({"corruptions": "gaussian_noise"}, "corruptions must be a sequence of objects"),
        ({"corruptions": [0.1]}, "must hold objects with perturb"),
        ({"kind": "fog"}, "kind must be None or one of 'corruption'"),
        ({"param_range": [0.0, 0.5]}, "fractions in \\(0, 1\\]"),
        ({"param_range": []}, "param_range is empty"),
        ({"param_name": "svc__alpha"}, "has no step 'svc'"),
        ({"param_name": "waveletsparsifier__level"}, "must end in 'alpha' or 'n_nonzero_coefs'"),
        ({"batch": "call"}, "'batch' parameter"),
        ({"estimator": make_pipeline(LogisticRegression())}, "no step or layer whose sparsity can be set"),
        ({"estimator": coder_pipeline("omp")}, "got pursuit='omp'"),
    ],
)
def test_bad_parameters_are_named(options, message):
    model = AdaptiveSparsity(wavelet_pipeline(), NOISE, max_samples=20).set_params(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(X[:100], Y[:100])
    assert not hasattr(model, "sweeps_")


def test_two_sparse_steps_need_a_name():
    front = WaveletSparsifier("haar", n_nonzero_coefs=0.9, image_shape=(8, 8))
    pipeline = make_pipeline(front, *[step for _, step in coder_pipeline().steps])
    with pytest.raises(ValueError, match="2 steps whose sparsity can be set"):
        AdaptiveSparsity(pipeline, NOISE, max_samples=20).fit(X[:100], Y[:100])
    model = AdaptiveSparsity(
        pipeline, NOISE, param_name="convsparsecoder__alpha", param_range=[0.05, 0.2], max_samples=20
    )
    assert model.fit(X[:100], Y[:100]).sweeps_["corruption"].param_name == "alpha"


def test_same_input_gives_same_fit():
    one, two = (
        AdaptiveSparsity(wavelet_pipeline(), NOISE, max_samples=50, random_state=3).fit(X[TRAIN], Y[TRAIN])
        for _ in range(2)
    )
    assert one.line() == two.line()


@pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"])
def test_strength_of_a_severity_gives_that_severity(kind):
    levels = corruption_levels(kind, random_state=0)
    assert len(levels) == 10
    np.testing.assert_array_equal(levels[-1].perturb(None, IMAGES[:5]), corrupt(IMAGES[:5], kind, 5, random_state=0))
    np.testing.assert_array_equal(levels[0].perturb(None, IMAGES[:5]), corrupt(IMAGES[:5], kind, 1, random_state=0))
    assert "strength" in levels[0].describe()["name"]


def test_strength_needs_a_kind_with_one_constant():
    with pytest.raises(ValueError, match="has several constants"):
        Corruption("fog", strength=1.0, random_state=0).perturb(None, IMAGES[:1])
    with pytest.raises(ValueError, match="kind must be one of"):
        corruption_levels("rain")
