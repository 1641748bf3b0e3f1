"""TorchClassifier: scikit-learn's contract, training, resuming, files, adversarial training, gradients through it."""

import copy
import json
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from skrobust import TorchClassifier, WaveletSparsifier, as_module
from skrobust.attacks import FGSM, PGD, Square
from skrobust.nn.training import CrossEntropy, Mart, RandomShift, Trades

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
IMAGES = X.reshape(-1, 8, 8)
FAST = {"max_epochs": 2, "lr": 0.01, "random_state": 0}


class SmallCNN(nn.Module):
    def __init__(self, n_channels=1, n_classes=10):
        super().__init__()
        layers = nn.Conv2d(n_channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(4), nn.Dropout(0.1)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, n_classes))

    def forward(self, X):
        return self.layers(X)


def assert_same_weights(a, b):
    assert a.history_ == b.history_
    for name, value in a.network_.state_dict().items():
        assert torch.equal(value, b.network_.state_dict()[name]), name


@parametrize_with_checks([TorchClassifier(max_epochs=30, lr=0.01, batch_size=32, random_state=0)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("shape", ["rows", "rows as images", "images", "images with channels"])
@pytest.mark.parametrize("labels", [np.int64, str, "two classes"])
def test_all_layouts_and_labels(shape, labels):
    data = {"rows": X, "rows as images": X, "images": IMAGES, "images with channels": IMAGES[..., None]}[shape]
    y = Y % 2 == 0 if labels == "two classes" else Y.astype(labels)
    options = {"image_shape": (8, 8)} if shape == "rows as images" else {}
    n_classes = len(np.unique(y))
    module, module_options = ("mlp", None) if shape == "rows" else (SmallCNN, {"n_classes": n_classes})
    model = TorchClassifier(module, module_options=module_options, **options, **{**FAST, "max_epochs": 5})
    model.fit(data[:600], y[:600])
    assert model.score(data[:600], y[:600]) > 0.5
    assert model.predict(data[:3]).dtype == np.unique(y).dtype
    proba = model.predict_proba(data[:7])
    assert proba.shape == (7, n_classes)
    np.testing.assert_allclose(proba.sum(1), 1)
    decision = model.decision_function(data[:7])
    assert decision.shape == ((7,) if n_classes == 2 else (7, n_classes))
    best = (decision > 0).astype(int) if n_classes == 2 else decision.argmax(1)
    np.testing.assert_array_equal(model.classes_[best], model.predict(data[:7]))
    module = as_module(model)
    scores = module(torch.as_tensor(data[:7], dtype=torch.float64))
    expected = np.stack([-decision / 2, decision / 2], 1) if n_classes == 2 else decision
    np.testing.assert_allclose(
        (scores - scores.mean(1, keepdim=True)).detach(), expected - expected.mean(1, keepdims=True), atol=1e-5
    )
    np.testing.assert_array_equal(module.predict(torch.as_tensor(data[:50])), model.predict(data[:50]))


def test_training_equals_a_plain_loop():
    torch.manual_seed(0)
    start = nn.Sequential(nn.Linear(64, 10))
    options = {"optimizer": "sgd", "momentum": 0.5, "lr": 0.1, "schedule": 2, "normalize": (0.25, 2.0)}
    model = TorchClassifier(start, max_epochs=4, batch_size=100, weight_decay=0.01, **options)
    model.fit(X[:100], Y[:100])
    plain = copy.deepcopy(start)
    velocity = [torch.zeros_like(p) for p in plain.parameters()]
    for epoch in range(4):
        scores = plain((torch.from_numpy(X[:100]) - 0.25) / 2.0)
        loss = nn.functional.cross_entropy(scores, torch.from_numpy(Y[:100]))
        assert model.history_[epoch]["loss"] == pytest.approx(loss.item(), rel=1e-5)
        gradients = torch.autograd.grad(loss, list(plain.parameters()))
        with torch.no_grad():
            for parameter, gradient, v in zip(plain.parameters(), gradients, velocity, strict=True):
                v.mul_(0.5).add_(gradient + (0.01 * parameter if parameter.ndim > 1 else 0))
                parameter -= 0.1 * 0.1 ** (epoch // 2) * v
    for ours, theirs in zip(model.network_.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    torch.manual_seed(0)
    assert torch.equal(start[0].weight, nn.Linear(64, 10).weight)  # the user's module is untouched


def test_objectives_are_those_of_their_papers():
    torch.manual_seed(0)
    network = nn.Linear(5, 3).double()
    batch, y = torch.randn(6, 5).double(), torch.tensor([0, 1, 2, 0, 1, 2])
    moved = batch + 0.3
    clean, attacked = network(batch).softmax(1).detach(), network(moved).softmax(1).detach()
    rows, kl = torch.arange(6), (clean * (clean / attacked).log()).sum(1)
    loss, scores = Trades(lambda *_: moved, beta=3.0)(network, batch, y, 0)
    torch.testing.assert_close(loss, -clean[rows, y].log().mean() + 3 * kl.mean())
    torch.testing.assert_close(scores, network(batch))
    loss, _ = Mart(lambda *_: moved, beta=3.0)(network, batch, y, 0)
    others = attacked.clone()
    others[rows, y] = 0
    boosted = -attacked[rows, y].log() - (1 - others.amax(1)).log()
    torch.testing.assert_close(loss, (boosted + 3 * kl * (1 - clean[rows, y])).mean())
    weight = torch.tensor([1.0, 2.0, 3.0]).double()
    loss, _ = CrossEntropy(lambda *_: moved, class_weight=weight)(network, batch, y, 0)
    torch.testing.assert_close(loss, -(weight[y] * attacked[rows, y].log()).sum() / weight[y].sum())


def test_the_inner_attack_of_trades_raises_the_divergence():
    model = TorchClassifier("mlp", **{**FAST, "max_epochs": 10}).fit(X[:500], Y[:500])
    module, batch = as_module(model, dtype="float32"), torch.from_numpy(X[500:600])

    def divergence(moved):
        clean, attacked = (module(part).log_softmax(1) for part in (batch, torch.as_tensor(moved)))
        return (clean.exp() * (clean - attacked)).sum(1).mean().item()

    options = {"eps": 0.05, "n_iter": 20, "perturb_all": True, "keep": "last", "random_state": 0}
    found = divergence(PGD(loss="kl", **options).perturb(model, X[500:600], Y[500:600]))
    noise = np.clip(X[500:600] + 0.05 * np.random.default_rng(0).choice([-1, 1], X[500:600].shape), 0, 1)
    assert found > 3 * divergence(noise.astype(np.float32))
    assert found >= 0.98 * divergence(PGD(loss="cross_entropy", **options).perturb(model, X[500:600], Y[500:600]))
    with pytest.raises(ValueError, match="loss='kl' has no target class"):
        PGD(loss="kl").perturb(model, X[:2], Y[:2], y_target=(Y[:2] + 1) % 10)


@pytest.mark.parametrize("loss", ["cross_entropy", "trades", "mart"])
def test_adversarial_training_helps_against_stronger_attacks(loss):
    adversary = PGD(eps=0.1, n_iter=5)
    options = {"max_epochs": 15, "lr": 0.01, "batch_size": 64, "random_state": 0}
    plain = TorchClassifier("mlp", **options).fit(X[:1000], Y[:1000])
    robust = TorchClassifier("mlp", adversary=adversary, loss=loss, beta=1.0, **options).fit(X[:1000], Y[:1000])
    accuracies = []
    for model in (plain, robust):
        X_adv = PGD(eps=0.1, n_iter=40, random_state=1).perturb(model, X[1000:1200], Y[1000:1200])
        accuracies.append(model.score(X_adv, Y[1000:1200]))
    assert accuracies[1] > accuracies[0] + 0.25
    assert adversary.random_state is None  # the user's attack is untouched


def test_the_radius_of_the_adversary_warms_up(monkeypatch):
    radii, perturb = [], PGD.perturb

    def recorded(self, *arguments):
        radii.append(float(self.eps))
        return perturb(self, *arguments)

    monkeypatch.setattr(PGD, "perturb", recorded)
    model = TorchClassifier("mlp", max_epochs=4, batch_size=50, adversary=PGD(eps=0.2, n_iter=1), random_state=0)
    monkeypatch.setattr("skrobust.estimators.classifiers.training.is_single_step", lambda attack: False)
    model.set_params(adversary_warm_up=0.5).fit(X[:100], Y[:100])
    np.testing.assert_allclose(radii, [0.05, 0.1, 0.15, 0.2, 0.2, 0.2, 0.2])  # none at the first step


def test_the_adversary_attacks_through_the_front_end():
    front_end = WaveletSparsifier("haar", n_nonzero_coefs=30, clip=(0, 1), image_shape=(8, 8))
    options = {"max_epochs": 15, "lr": 0.01, "batch_size": 64, "random_state": 0, "front_end": front_end}
    plain = TorchClassifier("mlp", **options).fit(X[:1000], Y[:1000])
    robust = TorchClassifier("mlp", adversary=PGD(eps=0.08, n_iter=5), **options).fit(X[:1000], Y[:1000])
    # The front end is part of the classifier: it equals a Pipeline of both.
    alone = TorchClassifier("mlp", **{**options, "front_end": None})
    pipeline = make_pipeline(clone(front_end), alone).fit(X[:1000], Y[:1000])
    np.testing.assert_allclose(plain.predict_proba(X[1000:]), pipeline.predict_proba(X[1000:]), atol=1e-4)
    accuracies = []
    for model in (plain, robust):
        X_adv = PGD(eps=0.08, n_iter=30, gradient="worst", random_state=1).perturb(model, X[1000:1100], Y[1000:1100])
        accuracies.append(model.score(X_adv, Y[1000:1100]))
        proba = as_module(model).predict_proba(torch.as_tensor(X[1000:1100]))
        np.testing.assert_allclose(proba.detach(), model.predict_proba(X[1000:1100]), atol=1e-4)
    assert accuracies[1] > accuracies[0] + 0.2
    assert not hasattr(front_end, "basis_")


def test_single_steps_that_fit_only_themselves_end_the_training(monkeypatch):
    from skrobust.estimators.classifiers import training

    measured = iter([0.3, 0.7, 0.5, 0.1])
    monkeypatch.setattr(training, "accuracy_under", lambda *_: next(measured))
    model = TorchClassifier("mlp", adversary=FGSM(eps=0.1), max_epochs=8, random_state=0)
    with pytest.warns(RuntimeWarning, match="Catastrophic overfitting: .* fell from 70.0% to 10.0%"):
        model.fit(X[:200], Y[:200])
    assert [entry["multi_step_accuracy"] for entry in model.history_] == [0.3, 0.7, 0.5, 0.1]
    measured = iter([0.3, 0.7])
    two = TorchClassifier("mlp", adversary=FGSM(eps=0.1), max_epochs=8, random_state=0, schedule="cosine")
    measured = iter([0.3, 0.7, 0.69, 0.68, 0.67, 0.66, 0.65, 0.64])
    two.fit(X[:200], Y[:200])
    for name, value in two.network_.state_dict().items():  # both kept the parameters of the second epoch
        assert torch.equal(value, model.network_.state_dict()[name])


@pytest.mark.parametrize(
    "options",
    [
        {"module": SmallCNN, "augment": "mirror_shift"},
        {"module": SmallCNN, "adversary": PGD(eps=0.1, n_iter=2), "loss": "trades"},
        {"module": "mlp", "patience": 2, "schedule": "one_cycle", "optimizer": "sgd", "lr": 0.1},
    ],
)
def test_resumed_training_equals_uninterrupted_training(tmp_path, monkeypatch, options):
    from skrobust.nn.training import TrainingCheckpoint

    model = TorchClassifier(**{**FAST, "max_epochs": 4, **options})
    through = clone(model).fit(IMAGES[:200], Y[:200])
    path = tmp_path / "training.pt"
    model.set_params(checkpoint=path)
    write, calls = TrainingCheckpoint.write, iter(range(10))

    def interrupted(self, state):
        write(self, state)
        if next(calls) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingCheckpoint, "write", interrupted)
        model.fit(IMAGES[:200], Y[:200])
    assert not hasattr(model, "network_")
    assert_same_weights(model.fit(IMAGES[:200], Y[:200]), through)
    with pytest.raises(ValueError, match="belongs to another training: .*lr"):
        clone(model).set_params(lr=0.5).fit(IMAGES[:200], Y[:200])


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_resumes_to_the_same_weights(tmp_path):
    script = (
        "import sys, torch\nfrom sklearn.datasets import load_digits\nfrom skrobust import TorchClassifier\n"
        "torch.set_num_threads(1)  # sums of more threads may have other last digits\n"
        "X, y = load_digits(return_X_y=True)\n"
        "m = TorchClassifier('mlp', max_epochs=300, random_state=0, checkpoint=sys.argv[1])\n"
        "m.fit(X[:300] / 16, y[:300])\n"
        "m.save(sys.argv[2])\n"
    )
    checkpoint, saved = tmp_path / "training.pt", tmp_path / "model"
    command = [sys.executable, "-c", script, str(checkpoint), str(saved)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists() and not saved.exists()
    subprocess.run(command, check=True)
    through = tmp_path / "through"
    subprocess.run([*command[:3], str(tmp_path / "other.pt"), str(through)], check=True)
    assert_same_weights(TorchClassifier.load(saved), TorchClassifier.load(through))


def test_an_interrupted_fit_leaves_the_classifier_as_it_was(monkeypatch):
    model = TorchClassifier("mlp", **FAST).fit(X[:100], Y[:100])
    before = model.predict_proba(X[:20])
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model.fit(IMAGES[:50], Y[:50] % 3)
    np.testing.assert_array_equal(model.predict_proba(X[:20]), before)


def test_early_stopping_keeps_the_best_epoch():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)  # nothing to learn
    model = TorchClassifier("mlp", max_epochs=50, lr=0.01, patience=3, random_state=0).fit(X[:300], labels)
    scores = [entry["validation_accuracy"] for entry in model.history_]
    assert model.n_epochs_ == len(scores) == int(np.argmax(scores)) + 4 < 50
    shorter = TorchClassifier(
        "mlp", max_epochs=50, lr=0.01, patience=int(np.argmax(scores)) + 1, validation_fraction=0.1, random_state=0
    )
    assert shorter.fit(X[:300], labels).history_[: len(scores)] == model.history_[: shorter.n_epochs_]


def test_saved_classifiers_hold_no_pickle(tmp_path):
    model = TorchClassifier(
        SmallCNN, class_weight={str(k): 1.0 for k in range(10)}, normalize=(0.3, [0.5]), device="cpu", **FAST
    )
    model.fit(IMAGES[:300], Y[:300].astype(str))
    model.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["settings.json", "weights.safetensors"]
    again = TorchClassifier.load(tmp_path / "model", module=SmallCNN)
    np.testing.assert_array_equal(again.predict_proba(IMAGES), model.predict_proba(IMAGES))
    assert again.history_ == model.history_ and again.classes_.dtype == model.classes_.dtype
    with pytest.raises(ValueError, match="pass its class or an instance as module"):
        TorchClassifier.load(tmp_path / "model")
    with pytest.raises(ValueError, match="do not fit the network"):
        TorchClassifier.load(tmp_path / "model", module=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(ValueError, match="holds no saved TorchClassifier"):
        TorchClassifier.load(tmp_path)
    settings = json.loads((tmp_path / "model" / "settings.json").read_text())
    (tmp_path / "model" / "settings.json").write_text(json.dumps({**settings, "format": 99}))
    with pytest.raises(ValueError, match="has format 99"):
        TorchClassifier.load(tmp_path / "model")
    front = TorchClassifier("mlp", front_end=FunctionTransformer(), **FAST).fit(X[:100], Y[:100])
    with pytest.raises(ValueError, match="with a front_end cannot be saved"):
        front.save(tmp_path / "other")


def test_pickles_clones_and_searches():
    model = TorchClassifier("mlp", **FAST).fit(X[:200], Y[:200])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    search = GridSearchCV(TorchClassifier("mlp", **FAST), {"lr": [1e-6, 0.01]}, cv=2).fit(X[:300], Y[:300])
    assert search.best_params_ == {"lr": 0.01}


def test_partial_fit_goes_on_where_it_was():
    model = TorchClassifier("mlp", lr=0.01, random_state=0)
    for _ in range(8):
        model.partial_fit(X[:400], Y[:400], classes=range(10))
    assert model.score(X[:400], Y[:400]) > 0.9
    with pytest.raises(ValueError, match="classes=.* differs from those of the first call"):
        model.partial_fit(X[:10], Y[:10], classes=[0, 1])
    with pytest.raises(ValueError, match=re.escape("labels that are not in classes: [11]")):
        model.partial_fit(X[:1], [11])


def test_warm_start_begins_with_the_last_parameters():
    model = TorchClassifier("mlp", warm_start=True, **FAST).fit(X[:300], Y[:300])
    first = model.history_[0]["loss"]
    assert model.fit(X[:300], Y[:300]).history_[0]["loss"] < first
    cold = TorchClassifier("mlp", **FAST).fit(X[:300], Y[:300])
    assert cold.fit(X[:300], Y[:300]).history_[0]["loss"] == first


def test_normalisation_is_inside_the_network():
    model = TorchClassifier(SmallCNN, **FAST).fit(IMAGES[:300], Y[:300])
    assert float(model.network_.mean) == pytest.approx(IMAGES[:300].mean(), rel=1e-5)
    assert float(model.network_.std) == pytest.approx(IMAGES[:300].std(), rel=1e-5)
    X_adv = PGD(eps=0.1, n_iter=3, random_state=0).perturb(model, IMAGES[:50], Y[:50])
    assert abs(X_adv - IMAGES[:50]).max() <= 0.1 and X_adv.min() >= 0 and X_adv.max() <= 1
    assert Square(eps=0.3, n_iter=30, random_state=0).perturb(model, IMAGES[:20], Y[:20]).shape == (20, 8, 8)


@pytest.mark.parametrize("max_shift", [1, 3])
def test_shifts_move_images_and_mirror_them(max_shift):
    generator = torch.Generator().manual_seed(0)
    image = torch.arange(1.0, 31).reshape(5, 3, 2)
    batch = RandomShift(max_shift, mirror=True)(image.expand(400, 5, 3, 2), generator)
    allowed = set()
    for version in (image, image.flip(1)):
        for down in range(-max_shift, max_shift + 1):
            for right in range(-max_shift, max_shift + 1):
                expected = torch.zeros(5, 3, 2)
                for i in range(5):
                    for j in range(3):
                        if 0 <= i + down < 5 and 0 <= j + right < 3:
                            expected[i, j] = version[i + down, j + right]
                allowed.add(tuple(expected.flatten().tolist()))
    seen = {tuple(one.flatten().tolist()) for one in batch}
    assert seen <= allowed and len(seen) > 0.8 * min(len(allowed), 200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"module": "resnet9000"}, "name must be one of"),
        ({"module": nn.Linear(64, 7)}, r"scores of shape \(n_samples, 10\).*returned \(2, 7\)"),
        ({"module": nn.Linear(64, 10), "module_options": {"bias": False}}, "module_options needs a name or a class"),
        ({"lr": 1e30, "optimizer": "sgd"}, "the learning rate 1e\\+30 is too high"),
        ({"loss": "trades"}, "loss='trades' needs an adversary"),
        ({"adversary": "PGD"}, "adversary must be an attack of skrobust.attacks"),
        ({"augment": "shift"}, "augment='shift' needs images"),
        ({"normalize": (0.0, 0.0)}, "normalize must be 'auto', None or"),
        ({"front_end": 3}, "front_end must be a transformer"),
        ({"device": "abacus"}, "device='abacus' is no device"),
        ({"patience": 2, "validation_fraction": 0.001}, "validation_fraction=0.001 of 100 samples"),
        ({"loss": "hinge"}, "The 'loss' parameter of TorchClassifier must be"),
    ],
)
def test_bad_input_gets_a_clear_error(options, message):
    model = TorchClassifier(**{**FAST, **options})
    with pytest.raises(ValueError, match=message):
        model.fit(X[:100], Y[:100])
    assert not hasattr(model, "classes_")


def test_nan_is_refused_by_name():
    with pytest.raises(ValueError, match="NaN"):
        TorchClassifier("mlp").fit(np.full((4, 3), np.nan), [0, 1, 0, 1])


def test_mixed_precision_trains_and_predicts_in_float32():
    model = TorchClassifier("mlp", precision="bfloat16", **{**FAST, "max_epochs": 5}).fit(X[:600], Y[:600])
    assert model.decision_function(X[:2]).dtype == np.float32
    assert model.score(X[:600], Y[:600]) > 0.8
