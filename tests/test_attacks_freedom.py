"""Clip, mask and eps per image in every attack and batch; which iterates and images count."""

import json

import numpy as np
import pytest
import torch
from attacks_helpers import ATTACKS, binary_svm, defended, logistic, make_attack, margins, network, norm_of

from skrobust.attacks import (
    APGD,
    FAB,
    FGSM,
    PGD,
    FromART,
    FromFoolbox,
    IterativeFGSM,
    IterativeLocallyLinear,
    LocallyLinear,
    RandomNoise,
    Transfer,
)
from skrobust.attacks.core.models import N_PROJECTIONS
from skrobust.evaluation import make_robust_scorer, masking_checks, robust_accuracy, robustness_report
from skrobust.evaluation.report.trials import check_admissible

every_attack = pytest.mark.parametrize("name", ATTACKS)
_RADIUS = {"linf": 0.15, "l2": 1.0, "l1": 4.0}
# Attacks that return successes only need larger radii.
_WIDE = {"HopSkipJump": 0.7, "FAB": 0.3}


def _images(name):
    model, X, y = logistic()
    right = model.predict(X) == y
    return model, X[right][[0, 3, 4]], y[right][[0, 3, 4]]


def _params(name, model):
    norm = ATTACKS[name].norm
    return {} if norm == "l0" else {"eps": _WIDE.get(name, _RADIUS[norm])}


def _agrees(name, each, alone):
    """Compare a run with one row per image, in all batches, with runs that use that row for all images.

    Parameters
    ----------
    each : dict
        Parameters with one row per image.
    alone : list of dict
        For each image, its row as parameters for all images.
    """
    model, X, y = _images(name)
    params = _params(name, model)
    expected = np.stack(
        [make_attack(name, model, **{**params, **own}).perturb(model, X, y)[k] for k, own in enumerate(alone)]
    )
    for batch_size in (None, 1, 2):
        X_adv = make_attack(name, model, **{**params, **each}, batch_size=batch_size).perturb(model, X, y)
        np.testing.assert_allclose(X_adv, expected, atol=1e-9)
    return X, X_adv


@every_attack
def test_clip_per_image(name):
    low, high = -np.array([0.0, 0.1, 0.2]), np.array([1.3, 1.0, 1.1])
    boxes = [{"clip": (a, b)} for a, b in zip(low, high, strict=True)]
    X, X_adv = _agrees(name, {"clip": (low[:, None], high[:, None])}, boxes)
    assert np.all(X_adv >= low[:, None]) and np.all(X_adv <= high[:, None])
    assert np.any(X_adv != X)


@every_attack
def test_mask_per_image(name):
    mask = np.random.default_rng(0).random((3, 64)) < 0.5
    X, X_adv = _agrees(name, {"mask": mask}, [{"mask": row} for row in mask])
    np.testing.assert_array_equal(X_adv[~mask], X[~mask])
    assert np.any(X_adv != X)


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.norm != "l0"])
def test_eps_per_image(name):
    norm = ATTACKS[name].norm
    eps = _WIDE.get(name, _RADIUS[norm]) * np.array([1.0, 0.0, 0.6])
    for given in (eps, torch.tensor(eps)[:, None]):
        X, X_adv = _agrees(name, {"eps": given}, [{"eps": one} for one in eps])
    assert np.all(norm_of(X_adv - X, norm) <= eps)
    np.testing.assert_array_equal(X_adv[1], X[1])
    assert np.any(X_adv != X)


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.norm == "linf"])
@pytest.mark.parametrize("kind", ["for all", "for each"])
def test_eps_per_pixel(name, kind):
    model, X, y = _images(name)
    eps = np.random.default_rng(1).choice(
        [0, 0.3, 0.9] if name in _WIDE else [0, 0.05, 0.3], size=(1 if kind == "for all" else 3, 64)
    )
    seen = []
    for batch_size in (None, 1, 2):
        X_adv = make_attack(name, model, eps=eps, batch_size=batch_size).perturb(model, X, y)
        assert np.all(np.abs(X_adv - X) <= eps)
        seen.append(X_adv)
    np.testing.assert_allclose(seen[1], seen[0], atol=1e-9)
    np.testing.assert_allclose(seen[2], seen[0], atol=1e-9)
    assert np.any(X_adv != X)


def test_each_pixel_uses_its_whole_radius():
    """On a binary linear model the optimum is a corner of the box of radii."""
    model, X, y = binary_svm()
    X, y = X[model.predict(X) == y], y[model.predict(X) == y]
    eps = np.random.default_rng(0).uniform(0, 0.02, size=X.shape)
    lifted = margins(model, X, y) + eps @ np.abs(model.coef_.ravel())
    for attack in (FGSM(eps, clip=None), PGD(eps, clip=None, random_state=0), APGD(eps, clip=None, random_state=0)):
        attained = margins(model, attack.perturb(model, X, y), y)
        standing = lifted < 0
        np.testing.assert_allclose(attained[standing], lifted[standing], atol=1e-6)
        np.testing.assert_array_equal(attained > 0, lifted > 0)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_masked_features_do_not_count_in_the_norm(norm):
    model, X, y = binary_svm()
    X, y = X[model.predict(X) == y], y[model.predict(X) == y]
    mask = np.arange(64) % 3 > 0
    weights = np.where(mask, model.coef_.ravel(), 0)
    eps = 0.3
    expected = margins(model, X, y) + eps * np.linalg.norm(weights, ord={"l2": 2, "l1": np.inf}[norm])
    X_adv = FGSM(eps, norm=norm, clip=None, mask=mask).perturb(model, X, y)
    np.testing.assert_array_equal(X_adv[:, ~mask], X[:, ~mask])
    np.testing.assert_allclose(margins(model, X_adv, y), expected, atol=1e-9)
    noise = RandomNoise(eps, norm=norm, clip=None, mask=mask, random_state=0).perturb(model, X, y)
    moved = norm_of(noise - X, norm)
    np.testing.assert_allclose(moved[moved > 0], eps, rtol=1e-6)


def test_images_of_any_layout():
    net, X, y = network()
    X, y = X[:6], y[:6]
    for mask in (np.arange(64).reshape(8, 8) < 32, np.arange(6)[:, None, None] < np.arange(8)[:, None] * np.ones(8)):
        clip = np.where(mask, 0, X), np.where(mask, 1, X)
        for params in ({"mask": mask}, {"clip": clip}):
            X_adv = PGD(0.3, n_iter=5, random_state=0, **params).perturb(net, X, y)
            assert X_adv.dtype == np.float32 and np.any(X_adv != X)
            np.testing.assert_array_equal(X_adv[~np.broadcast_to(mask, X.shape)], X[~np.broadcast_to(mask, X.shape)])


def test_a_box_that_float32_cannot_hold():
    """0.3 in float32 lies above 0.3: bounds are rounded into the box."""
    net, X, y = network()
    X = (X * 0.25).astype(np.float32)
    X_adv = PGD(1.0, n_iter=3, clip=(0, 0.3), random_state=0).perturb(net, X, y)
    assert float(X_adv.astype(np.float64).max()) <= 0.3 < float(np.float32(0.3))


@pytest.mark.parametrize(
    "library, cls, name", [("foolbox", FromFoolbox, "LinfPGD"), ("art", FromART, "FastGradientMethod")]
)
def test_attacks_of_other_libraries(library, cls, name):
    pytest.importorskip(library)
    model, X, y = logistic()
    X, y = X[:6].astype(np.float32), y[:6]
    eps = np.array([0.1, 0.1, 0.2, 0.2, 0.0, 0.05])
    mask = np.arange(64) < 40
    X_adv = cls(name, eps=eps, mask=mask, random_state=0).perturb(model, X, y)
    assert np.all(norm_of(X_adv.astype(np.float64) - X, "linf") <= eps)
    np.testing.assert_array_equal(X_adv[:, ~mask], X[:, ~mask])
    assert np.any(X_adv != X)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"mask": np.ones(3, bool)}, r"mask must be .*\(64,\).*got shape \(3,\)"),
        ({"mask": np.ones(64)}, r"mask must be an array of bool.*astype\(bool\)"),
        ({"clip": (0, np.ones((3, 64)))}, r"clip must be .*got shape \(3, 64\)"),
        ({"eps": np.ones(3)}, r"eps of shape \(3,\) is one number per image, but X has 200 images"),
        ({"eps": -np.ones(200)}, "eps must not be negative"),
        ({"eps": np.full(200, np.nan)}, "eps must not be negative or NaN"),
        ({"eps": np.ones((1, 64)), "norm": "l2"}, "norm='l2' has one eps per image.*mask="),
        ({"eps": np.ones((2, 64))}, r"eps must be .*got shape \(2, 64\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(params, message):
    model, X, y = logistic()
    with pytest.raises(ValueError, match=message):
        PGD(**params).perturb(model, X, y)


def test_ambiguous_shapes_of_eps_are_refused():
    model, X, y = logistic()
    with pytest.raises(ValueError, match=r"eps\[:, None\] for one per image, eps\[None\] for one per feature"):
        FGSM(np.full(64, 0.1)).perturb(model, X[:64], y[:64])
    some = np.where(np.arange(200) < 5, np.inf, 1.0)
    with pytest.raises(ValueError, match="infinite for all"):
        FAB(some).perturb(model, X, y)


def test_describe_summarises_arrays_with_a_checksum():
    eps, mask = np.full((5, 1), 0.1), np.arange(64) < 32
    description = PGD(eps, mask=mask, clip=(np.zeros(64), 1), keep="last", perturb_all=True).describe()
    assert description["eps"].startswith("0.1 to 0.1 in an array of shape (5, 1), checksum")
    assert description["mask"].startswith("50% of an array of shape (64,), checksum")
    assert description["clip"][0].startswith("0 to 0 in an array") and description["clip"][1] == 1
    assert description["keep"] == "last" and description["perturb_all"] is True
    assert description["mask"] != PGD(mask=~mask).describe()["mask"]
    json.dumps(description)
    assert PGD(gradient="iterated").describe()["n_projections"] == N_PROJECTIONS
    assert "n_projections" not in PGD().describe()


# --- which iterates and images count -------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_last_iterate(norm):
    """Iterative FGSM written out: the last point of each image, also where an earlier one or the start did more."""
    net, X, y = network()
    X, y = X[:80].astype(np.float64), y[:80]
    eps, step, n_iter = (0.06, 0.05, 6) if norm == "linf" else (0.4, 0.3, 6)
    attack = IterativeFGSM(eps, norm=norm, n_iter=n_iter, step_size=step, loss="margin", clip=None, keep="last")
    right = np.flatnonzero(net(torch.as_tensor(X, dtype=torch.float32)).argmax(1).numpy() == y)
    x = torch.tensor(X[right])
    for _ in range(n_iter):
        at = x.clone().requires_grad_(True)
        scores = net(at.float()).double()
        own = scores.gather(1, torch.as_tensor(y[right])[:, None])[:, 0]
        value = scores.scatter(1, torch.as_tensor(y[right])[:, None], -torch.inf).amax(1) - own
        (gradient,) = torch.autograd.grad(value.sum(), at)
        start = torch.tensor(X[right])
        if norm == "linf":
            x = start + (x + step * gradient.sign() - start).clamp(-eps, eps)
        else:
            delta = x + step * gradient / gradient.flatten(1).norm(dim=1)[:, None, None] - start
            x = start + delta * (eps / delta.flatten(1).norm(dim=1)).clamp_max(1)[:, None, None]
    last = attack.perturb(net, X, y)
    np.testing.assert_allclose(last[right], x, atol=1e-6)
    best = attack.set_params(keep="best").perturb(net, X, y)
    assert np.all((margins(net, best, y) > 0) >= (margins(net, last, y) > 0))
    standing = margins(net, best, y) <= 0
    assert np.all(margins(net, best, y)[standing] >= margins(net, last, y)[standing] - 1e-5)


@pytest.mark.parametrize("attack", [PGD(0.1, n_iter=5, random_state=0), APGD(0.1, n_iter=5, random_state=0)], ids=repr)
def test_the_worst_last_iterate_of_all_restarts_is_returned(attack):
    model, X, y = defended("logistic")
    X, y = X[:60], y[:60]
    attack.set_params(keep="last", gradient="projection")
    one, five = (margins(model, attack.set_params(n_restarts=n).perturb(model, X, y), y) for n in (1, 5))
    assert np.mean(five > 0) >= np.mean(one > 0)
    still = (five <= 0) & (margins(model, X, y) <= 0)
    assert np.all(five[still] >= one[still] - 1e-9) and np.any(five[still] > one[still] + 1e-6)


def test_last_iterates_through_transfer_and_unknown_front_ends():
    model, X, y = defended("logistic")
    X, y = X[:40], y[:40]
    source = logistic()[0]
    plain = PGD(0.15, n_iter=4, step_size=0.1, random_state=0, keep="last")
    made = plain.perturb(source, X, y)
    transferred = Transfer(plain, source).perturb(model, X, y)
    right = (model.predict(X) == y) & (source.predict(X) == y)
    np.testing.assert_allclose(transferred[right], made[right], atol=1e-12)
    np.testing.assert_array_equal(transferred[model.predict(X) != y], X[model.predict(X) != y])


@every_attack
def test_perturb_all_also_perturbs_misclassified_images(name):
    model, X, y = logistic()
    wrong = model.predict(X) != y
    X, y = X[wrong][:4], y[wrong][:4]
    attack = make_attack(name, model, **_params(name, model))
    np.testing.assert_array_equal(attack.perturb(model, X, y), X)
    inner = {"attack__perturb_all": True} if name == "Transfer" else {"perturb_all": True}
    X_adv = attack.set_params(**inner).perturb(model, X, y)
    assert attack.perturb_all
    if name not in ("PDPGD", "SigmaZero"):  # may stay at the image, the nearest one of a wrong label
        assert np.all(norm_of(X_adv - X, "linf") > 0)
    if attack.norm != "l0":
        assert np.all(norm_of(X_adv - X, attack.norm) <= attack.eps)


def test_perturb_all_counts_as_published():
    """e = eps · sgn(w) for every image, correctly classified or not."""
    model, X, y = defended()
    y = np.where(np.arange(len(y)) % 3, y, 10 - y)  # every third image is wrong
    w, towards = model[-1].coef_, np.where(y == 3, 1, -1)[:, None]
    expected = X + 0.2 * np.sign(w) * towards
    attack = LocallyLinear(0.2, gradient="skip", clip=None, perturb_all=True)
    wrong = model.predict(X) != y
    assert wrong.any()
    np.testing.assert_allclose(attack.perturb(model, X, y)[wrong], expected[wrong], atol=1e-12)
    # A front end may correct a misclassified image: papers count it as correct.
    net, X, y = network()
    wrong = net(torch.as_tensor(X)).argmax(1).numpy() != y
    attack = IterativeFGSM(0.3, n_iter=2, step_size=0.3, keep="last", perturb_all=True)
    counted = np.mean(net(torch.as_tensor(attack.perturb(net, X, y))).argmax(1).numpy() == y)
    assert robust_accuracy(net, X, y, attack) == pytest.approx(counted)


# --- iterated projections ----------------------------------------------------------------------------------------


def test_iterated_projections_are_the_formula():
    """In NumPy: the support is recomputed at the end of the step, 20 times, starting from the unprojected step."""
    model, X, y = defended()
    X, y = X[model.predict(X) == y], y[model.predict(X) == y]
    front, w = model[0], np.broadcast_to(model[-1].coef_, X.shape)
    towards = np.where(y == 3, 1, -1)[:, None]

    def direction(points, delta):
        e = delta * np.sign(w) * towards
        for _ in range(N_PROJECTIONS):
            signs = np.sign(front.project(w, np.clip(points + e, X - 0.2, X + 0.2))) * towards
            e = delta * signs
        return signs

    expected = X + 0.2 * direction(X, 0.2)
    X_adv = FGSM(0.2, gradient="iterated", clip=None, perturb_all=True).perturb(model, X, y)
    better = margins(model, expected, y) > margins(model, X, y)
    np.testing.assert_allclose(X_adv[better], expected[better], atol=1e-12)

    e, delta, n_iter = np.zeros_like(X), 0.1, 3
    for _ in range(n_iter):
        e = np.clip(e + delta * direction(X + e, delta), -0.2, 0.2)
    params = {"n_iter": n_iter, "step_size": delta, "gradient": "iterated", "clip": None, "keep": "last"}
    for attack in (
        IterativeFGSM(0.2, **params),
        PGD(0.2, random_start=False, **params),
        IterativeLocallyLinear(0.2, **params),
    ):
        np.testing.assert_allclose(attack.perturb(model, X, y), X + e, atol=1e-12)
        assert attack.threat_model == "white box"


def test_iterated_projections_find_more_in_one_step():
    """As in the paper's table of three gradients: one step moves the support far."""
    for model, X, y in (defended(), defended("logistic")):
        plain, iterated = (
            np.mean(model.predict(FGSM(0.15, gradient=mode).perturb(model, X, y)) == y)
            for mode in ("projection", "iterated")
        )
        assert iterated < plain - 0.05


# --- scorers and reports -----------------------------------------------------------------------------------------


def _given(n):
    rng = np.random.default_rng(0)
    mask = rng.random((n, 64)) < 0.6
    return {"mask": mask, "clip": (np.zeros((n, 1)), np.linspace(1, 1.2, n)[:, None])}


def test_report_with_parameters_per_image():
    model, X, y = logistic()
    X, y = X[:50], y[:50]
    pattern = np.linspace(0.5, 1, 50)
    attacks = [PGD(pattern, n_iter=5, random_state=0, **_given(50)), RandomNoise(random_state=0, **_given(50))]
    report = robustness_report(model, X, y, eps=[0.05, 0.1], attacks=attacks, clip=_given(50)["clip"])
    for k, eps in enumerate(report.eps):
        alone = PGD(eps * pattern, n_iter=5, random_state=0, **_given(50)).perturb(model, X, y)
        # Each radius attacks the remaining images; random draws depend on their positions.
        assert abs(np.mean(model.predict(alone) == y) - report.trials["model"][0].right[k].mean()) <= 0.06
    settings = report.trials["model"][0].settings
    assert settings["eps_pattern"].startswith("0.5 to 1 in an array of shape (50,)")
    assert settings["mask"].startswith("59%") or "checksum" in settings["mask"]
    report.to_html("/dev/null")
    json.dumps(settings)
    assert len(masking_checks(model, X, y, eps=0.1, attacks=attacks[:1], clip=_given(50)["clip"], n_samples=20)) == 9


def test_scorer_on_a_subset_with_parameters_per_image():
    model, X, y = logistic()
    attack = FGSM(np.linspace(0, 0.3, 200), **_given(200))
    chosen = np.unique(np.linspace(0, 199, 40).round().astype(int))
    score = make_robust_scorer(attack, max_samples=40)(model, X, y)
    alone = model.predict(attack.perturb(model, X, y)) == y
    assert score == pytest.approx(np.mean(alone[chosen]))


def test_report_refuses_perturb_all():
    model, X, y = logistic()
    with pytest.raises(ValueError, match="perturb_all=True.*robust_accuracy"):
        robustness_report(model, X, y, eps=0.1, attacks=FGSM(perturb_all=True))


@pytest.mark.parametrize(
    "params, moved, message",
    [
        ({"eps": np.array([0.1, 0.3, 0.3])}, (0, 5, 0.2), "left its ball.*by 0.1 in linf more than its eps"),
        ({"eps": np.full((1, 64), 0.1)}, (2, 5, 0.2), "left its ball"),
        ({"eps": np.array([0.1, 0.3, 0.3]), "norm": "l2"}, (0, 5, 0.2), "left its ball"),
        ({"clip": (np.zeros((3, 1)), np.array([[1.0], [0.1], [1.0]]))}, (1, 5, 0.2), "left its box.*1 of 3"),
        ({"mask": np.arange(64) > 5}, (1, 5, 0.2), "left its mask.*by 0.2"),
        ({"mask": np.arange(3)[:, None] != 1}, (1, 5, 0.2), "left its mask"),
    ],
)
def test_images_are_checked_against_their_own_radius(params, moved, message):
    X = np.zeros((3, 64))
    attacked = X.copy()
    check_admissible(PGD(**{"eps": 0.3, **params}), X, attacked)
    image, feature, size = moved
    attacked[image, feature] = size
    with pytest.raises(ValueError, match=message):
        check_admissible(PGD(**{"eps": 0.3, **params}), X, attacked)
    admitted = X.copy()
    admitted[(image + 1) % 3, 6] = 0.05
    check_admissible(PGD(**{"eps": 0.3, **params}), X, admitted)
