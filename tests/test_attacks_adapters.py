"""Doors both ways: our models under the attacks of other libraries, and their attacks through `perturb`."""

import pickle
import random
import sys

import numpy as np
import pytest
import torch
from attacks_helpers import binary_svm, defended, digits, logistic, margins, network, norm_of, predict
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils._param_validation import InvalidParameterError

from skrobust import as_module
from skrobust.attacks import PGD, Cascade, FromART, FromFoolbox, FromTorchattacks, Square, Transfer

PACKAGES = {FromART: "art", FromFoolbox: "foolbox", FromTorchattacks: "torchattacks"}

# Few steps; the flat digits are images for those that need them.
ATTACKS = {
    "ART PGD": FromART("ProjectedGradientDescent", {"max_iter": 4, "num_random_init": 1}, random_state=0),
    "ART PGD worst": FromART("ProjectedGradientDescent", {"max_iter": 2}, gradient="worst"),
    "ART FGM skip": FromART("FastGradientMethod", gradient="skip"),
    "ART APGD": FromART("AutoProjectedGradientDescent", {"max_iter": 4, "nb_random_init": 1}, random_state=0),
    "ART Square": FromART("SquareAttack", {"max_iter": 6, "nb_restarts": 1}, image_shape=(8, 8), random_state=0),
    "foolbox LinfPGD": FromFoolbox("LinfPGD", {"steps": 4}, random_state=0),
    "foolbox L2PGD": FromFoolbox("L2PGD", {"steps": 4}, norm="l2", random_state=0),
    "foolbox L1PGD": FromFoolbox("L1PGD", {"steps": 4}, norm="l1", random_state=0),
    "foolbox DeepFool": FromFoolbox("L2DeepFoolAttack", {"steps": 4}, norm="l2"),
    "foolbox noise": FromFoolbox("L2RepeatedAdditiveGaussianNoiseAttack", {"repeats": 3}, norm="l2", random_state=0),
    "torchattacks PGD": FromTorchattacks("PGD", {"steps": 4}, random_state=0),
    "torchattacks APGD": FromTorchattacks("APGD", {"steps": 4}, image_shape=(8, 8), random_state=0),
    "torchattacks Square": FromTorchattacks("Square", {"n_queries": 10}, image_shape=(8, 8), random_state=0),
}
BLACK_BOX = {"ART Square", "foolbox noise", "torchattacks Square"}
every_attack = pytest.mark.parametrize("name", ATTACKS)


def _attack(name, **params):
    pytest.importorskip(PACKAGES[type(ATTACKS[name])])
    return clone(ATTACKS[name]).set_params(**params)


# Their attacks through our interface


@every_attack
@given(data=st.data())
@settings(max_examples=6)
def test_contract(name, data):
    norm = ATTACKS[name].norm
    eps = data.draw(st.sampled_from({"linf": [0, 0.05, 0.3], "l2": [0, 0.4, 3], "l1": [0, 1, 20]}[norm]), label="eps")
    clips = [(0, 1)] if "torchattacks" in name else [(0, 1), (-0.25, 1.5), (np.zeros(64), np.full(64, 1.125)), None]
    clip = data.draw(st.sampled_from(clips), label="clip")
    dtype = data.draw(st.sampled_from(["float64", "float32"]), label="dtype")
    as_tensor = data.draw(st.booleans(), label="as_tensor")
    model, X, y = data.draw(st.sampled_from([binary_svm, logistic, defended]), label="model")()
    n = data.draw(st.sampled_from([1, 7]), label="n_samples")
    X, y = X[:n].astype(dtype), y[:n]
    attack = _attack(name, eps=eps, clip=clip)

    X_adv = attack.perturb(model, torch.tensor(X) if as_tensor else X, y)

    assert isinstance(X_adv, torch.Tensor) == as_tensor
    X_adv = np.asarray(X_adv)
    assert X_adv.dtype == X.dtype and X_adv.shape == X.shape
    assert np.all(norm_of(X_adv.astype(np.float64) - X.astype(np.float64), norm) <= eps)
    if clip is not None:
        assert np.all(X_adv >= clip[0]) and np.all(X_adv <= clip[1])
    wrong = predict(model, X) != y
    np.testing.assert_array_equal(X_adv[wrong], X[wrong])
    assert np.all(margins(model, X_adv, y) >= margins(model, X, y) - 1e-5)
    again = _attack(name, eps=eps, clip=clip).perturb(model, X, y)
    np.testing.assert_allclose(again, X_adv, atol=1e-6)


@every_attack
def test_images_with_their_own_axes_and_networks(name):
    net, X, y = network()
    attack = _attack(name, image_shape=None)
    X_adv = attack.perturb(net, X[:20], y[:20])
    assert X_adv.shape == (20, 8, 8) and X_adv.dtype == np.float32
    assert np.all(norm_of(X_adv.astype(float) - X[:20], attack.norm) <= 0.1)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


@every_attack
def test_describe_clone_pickle(name):
    attack = pickle.loads(pickle.dumps(clone(ATTACKS[name])))
    description = attack.describe()
    order = "name threat_model norm eps n_iter n_restarts gradient random_state"
    assert list(description)[:8] == order.split()
    assert description["name"] == f"{name.split()[0]} {attack.attack}"
    expected = "black box" if name in BLACK_BOX else "semi-white box" if "skip" in name else "white box"
    assert description["threat_model"] == attack.threat_model == expected
    assert (description["gradient"] is None) == (name in BLACK_BOX)


def test_description_has_the_settings_of_the_library():
    description = ATTACKS["ART PGD"].describe()
    assert description["n_iter"] == 4 and description["n_restarts"] == 1
    assert description["options"]["num_random_init"] == 1
    assert ATTACKS["foolbox LinfPGD"].describe()["n_iter"] == 4


PGD_OF_OTHERS = {
    "art": FromART("ProjectedGradientDescent", {"max_iter": 20, "eps_step": 0.01}),
    "foolbox": FromFoolbox("LinfPGD", {"steps": 20, "abs_stepsize": 0.01}, random_state=0),
    "torchattacks": FromTorchattacks("PGD", {"steps": 20, "alpha": 0.01}, random_state=0),
}


@pytest.mark.parametrize("package", PGD_OF_OTHERS)
@pytest.mark.parametrize("model", [logistic, defended, lambda: defended("logistic")], ids=["smooth", "svm", "ten"])
def test_attacks_of_other_libraries_are_as_strong_as_ours(package, model):
    pytest.importorskip(package)
    model, X, y = model()
    ours = PGD(eps=0.05, n_iter=20, step_size=0.01, random_state=0).perturb(model, X, y)
    theirs = PGD_OF_OTHERS[package].set_params(eps=0.05).perturb(model, X, y)
    assert model.score(theirs, y) < model.score(X, y) - 0.05
    # Theirs return the last iterate, which on front ends is often not the worst one.
    gap = model.score(theirs, y) - model.score(ours, y)
    assert abs(gap) <= 0.02 if model is logistic()[0] else -0.02 <= gap <= 0.1


def test_gradient_modes_reach_their_attacks():
    pytest.importorskip("art")
    model, X, y = defended()
    attack = FromART("ProjectedGradientDescent", {"max_iter": 10, "eps_step": 0.05}, eps=0.15)
    score = {
        mode: model.score(attack.set_params(gradient=mode).perturb(model, X, y), y)
        for mode in ("skip", "exact", "identity", "projection", "smooth", "worst")
    }
    assert score["worst"] <= min(score.values()) < score["skip"]


@pytest.mark.parametrize(
    "attack",
    [
        FromART("SquareAttack", {"max_iter": 50}, image_shape=(8, 8)),
        FromART("HopSkipJump", {"max_iter": 2, "max_eval": 50, "init_eval": 10}),
        FromTorchattacks("Square", {"n_queries": 50}, image_shape=(8, 8)),
        FromFoolbox("LinfRepeatedAdditiveUniformNoiseAttack", {"repeats": 50}),
    ],
    ids=lambda attack: attack.describe()["name"],
)
def test_black_box_attacks_take_any_classifier(attack):
    pytest.importorskip(PACKAGES[type(attack)])
    X, y, X_test, y_test = digits()
    names = np.array([f"digit {k}" for k in range(10)], dtype=object)
    model = RandomForestClassifier(20, random_state=0).fit(X, names[y])
    attack = clone(attack).set_params(eps=0.3, random_state=0)
    X, y = X_test[:30], names[y_test[:30]]
    X_adv = attack.perturb(model, X, list(y))
    assert norm_of(X_adv - X, "linf").max() <= 0.3
    assert model.score(X_adv, y) < model.score(X, y) - 0.1


@pytest.mark.parametrize("name", ["ART PGD", "ART Square", "foolbox LinfPGD", "torchattacks PGD"])
def test_inside_transfer_and_cascade(name):
    model, X, y = logistic()
    X, y = X[:60], y[:60]
    attack = _attack(name, eps=0.1)
    source = LogisticRegression(C=0.1, max_iter=2000).fit(*digits()[:2])
    transferred = Transfer(attack, source).perturb(model, X, y)
    on_source = attack.perturb(source, X, y)
    assert Transfer(attack, source).describe()["name"] == f"{attack.describe()['name']} on LogisticRegression"
    # The images fool the source, and some of them also the model.
    assert source.score(on_source, y) < source.score(X, y)
    assert model.score(transferred, y) <= model.score(X, y)
    assert np.any(transferred != X)
    assert np.max(norm_of(transferred - X, "linf")) <= 0.1

    parts = [attack, Square(n_iter=20, image_shape=(8, 8))]
    cascade = Cascade(eps=0.1, attacks=parts, random_state=0)
    assert [part["name"] for part in cascade.describe()["attacks"]] == [attack.describe()["name"], "Square"]
    alone = [part.set_params(eps=0.1, random_state=0).perturb(model, X, y) for part in parts]
    assert model.score(cascade.perturb(model, X, y), y) <= min(model.score(X_adv, y) for X_adv in alone)


def test_infinite_radius_keeps_the_nearest():
    pytest.importorskip("foolbox")
    model, X, y = logistic()
    attack = FromFoolbox("L2CarliniWagnerAttack", {"steps": 100, "stepsize": 0.05}, eps=np.inf, norm="l2")
    X_adv = attack.perturb(model, X, y)
    assert np.all(model.predict(X_adv) != y)
    other = FromFoolbox("L2DeepFoolAttack", eps=np.inf, norm="l2").perturb(model, X, y)
    assert norm_of(X_adv - X, "l2").mean() == pytest.approx(norm_of(other - X, "l2").mean(), rel=0.1)  # two heuristics


@pytest.mark.parametrize(
    "attack",
    [
        FromART("ProjectedGradientDescent", {"max_iter": 20}, eps=0.3),
        FromART("SaliencyMapMethod", {"theta": 0.5, "gamma": 0.5}, eps=1),
        FromFoolbox("LinfPGD", {"steps": 20}, eps=0.3, random_state=0),
        FromTorchattacks("PGD", {"steps": 20}, eps=0.3, random_state=0),
    ],
    ids=lambda attack: attack.describe()["name"],
)
def test_targets(attack):
    pytest.importorskip(PACKAGES[type(attack)])
    model, X, y = logistic()
    X_adv = attack.perturb(model, X[:30], y[:30], y_target=np.full(30, 3))
    assert np.mean(model.predict(X_adv) == 3) > np.mean(model.predict(X[:30]) == 3) + 0.2


def test_saliency_maps_of_art_draw_their_targets():
    pytest.importorskip("art")
    model, X, y = logistic()
    X_adv = FromART("SaliencyMapMethod", {"theta": 0.5}, eps=1, random_state=0).perturb(model, X[:30], y[:30])
    assert model.score(X_adv, y[:30]) < model.score(X[:30], y[:30]) - 0.1


def test_random_state_decides_and_global_generators_are_unchanged():
    pytest.importorskip("art")
    model, X, y = logistic()
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), random.getstate(), torch.random.get_rng_state()  # noqa: NPY002
    first, second, other = (
        _attack("ART PGD", random_state=seed, options={"max_iter": 1, "num_random_init": 1}).perturb(model, X, y)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert random.getstate() == before[1]
    assert torch.equal(torch.random.get_rng_state(), before[2])


@pytest.mark.parametrize("adapter", PACKAGES)
def test_absent_libraries(adapter, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[adapter], None)
    for name in [name for name in sys.modules if name.startswith(f"{PACKAGES[adapter]}.")]:
        monkeypatch.delitem(sys.modules, name)
    model, X, y = logistic()
    attack = adapter("PGD")
    assert attack.describe()["eps"] == 0.1
    install = "--no-deps torchattacks" if adapter is FromTorchattacks else r"'skrobust\[bench\]'"
    with pytest.raises(ImportError, match=rf"{adapter.__name__} needs .* not installed: pip install {install}"):
        attack.perturb(model, X, y)


def test_wrong_parameters():
    model, X, y = logistic()
    for params in ({"eps": -1}, {"norm": "l3"}, {"gradient": "none"}, {"options": [1]}, {"image_shape": 8}):
        with pytest.raises(InvalidParameterError, match=f"The '{next(iter(params))}' parameter of FromART"):
            FromART("ProjectedGradientDescent", **params).perturb(model, X, y)
    pytest.importorskip("torchattacks")
    with pytest.raises(ValueError, match=r"clip=\(-1, 1\)"):
        FromTorchattacks("PGD", clip=(-1, 1)).perturb(model, X, y)
    pytest.importorskip("foolbox")
    with pytest.raises(ValueError, match="norm='linf', but L2ProjectedGradientDescentAttack of foolbox"):
        FromFoolbox("L2PGD").perturb(model, X, y)
    pytest.importorskip("art")
    with pytest.raises(ValueError, match="attack='Nonsense' is not an attack of art.attacks.evasion"):
        FromART("Nonsense").perturb(model, X, y)
    with pytest.raises(ValueError, match="DeepFool of ART cannot aim"):
        FromART("DeepFool").perturb(model, X, y, y_target=np.zeros(200, dtype=int))


# Our models as theirs


@pytest.fixture(scope="module")
def pipeline():
    """An SVM behind a scaler, with labels that are no column numbers, and 40 digits that it gets right."""
    X, y, X_test, y_test = digits()
    model = make_pipeline(StandardScaler(), SVC(C=10)).fit(X, y + 100)
    right = np.flatnonzero(model.predict(X_test) == y_test + 100)[:40]
    return model, X_test[right].astype(np.float32), y_test[right] + 100


def _check(pipeline, X_adv):
    model, X, y = pipeline
    assert np.all(abs(X_adv - X) <= 0.1 + 1e-6)
    ours = PGD(eps=0.1, n_iter=20, random_state=0).perturb(model, X, y)
    assert model.score(X_adv, y) < 0.6
    # Other random starts and step sizes: the attacks agree on all but some images.
    assert model.score(X_adv, y) == pytest.approx(model.score(ours, y), abs=0.11)


def test_as_module_in_art(pipeline):
    pytest.importorskip("art")
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    model, X, y = pipeline
    classifier = PyTorchClassifier(
        model=as_module(model),
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=(64,),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )
    np.testing.assert_array_equal(model.classes_[classifier.predict(X).argmax(1)], model.predict(X))
    attack = ProjectedGradientDescent(classifier, eps=0.1, eps_step=0.02, max_iter=20, verbose=False)
    _check(pipeline, attack.generate(X, y=y - 100))


def test_as_module_in_foolbox(pipeline):
    foolbox = pytest.importorskip("foolbox")
    model, X, y = pipeline
    module = as_module(model)
    images, labels = torch.tensor(X), module.label_indices(y)
    fmodel = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
    assert foolbox.accuracy(fmodel, images, labels) == 1
    _, X_adv, success = foolbox.attacks.LinfPGD(steps=20)(fmodel, images, labels, epsilons=0.1)
    assert model.score(X_adv.numpy(), y) == pytest.approx(1 - success.float().mean().item())
    _check(pipeline, X_adv.numpy())


def test_as_module_in_torchattacks(pipeline):
    torchattacks = pytest.importorskip("torchattacks")
    model, X, y = pipeline
    module = as_module(model)
    attack = torchattacks.PGD(module, eps=0.1, alpha=0.02, steps=20)
    attack.set_device("cpu")
    _check(pipeline, attack(torch.tensor(X), module.label_indices(y)).numpy())


def test_binary_classifiers_in_art():
    pytest.importorskip("art")
    from art.attacks.evasion import DeepFool
    from art.estimators.classification import PyTorchClassifier

    X, y, X_test, y_test = digits()
    train, test = np.isin(y, [3, 7]), np.isin(y_test, [3, 7])
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[train], y[train] == 7)
    classifier = PyTorchClassifier(
        as_module(model), loss=torch.nn.CrossEntropyLoss(), input_shape=(64,), nb_classes=2, device_type="cpu"
    )
    images = X_test[test].astype(np.float32)
    assert model.score(images, y_test[test] == 7) > 0.95
    assert model.score(DeepFool(classifier, verbose=False).generate(images), y_test[test] == 7) < 0.05
