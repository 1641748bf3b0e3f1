"""Training of layered pursuits: against a plain loop, bounds, checkpoints, penalties, bad input."""

import itertools
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from skrobust.attacks import FGSM
from skrobust.nn import LayeredClassifier, LayeredPursuit, incoherence_penalty, parseval_penalty, train_layered
from skrobust.nn.training import TrainingCheckpoint


def pursuit(seed=0, shape=(6, 5, 2), dtype=torch.float32, **options):
    """Two small layers on images of odd size, or on 1-D signals."""
    rng, ndim = np.random.default_rng(seed), len(shape) - 1
    atoms = [0.5 * rng.normal(size=(4, *(3,) * ndim, shape[-1])), 0.5 * rng.normal(size=(5, *(2,) * ndim, 4))]
    return LayeredPursuit(atoms, shape, **{"pursuit": "basis", "alpha": 0.05, "max_iter": 2, **options}).to(dtype)


def data(n=24, shape=(6, 5, 2), n_classes=3, seed=1):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return rng.normal(size=(n, *shape)) + rng.normal(size=(n_classes, *shape))[y], y


def assert_same(a, b):
    assert a.history == b.history
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


@pytest.mark.parametrize("kind", ["thresholding", "basis", "deep", "projection"])
@pytest.mark.parametrize("shape", [(6, 5, 2), (9, 1)])
def test_equals_a_plain_loop(kind, shape):
    X, y = data(shape=shape)
    begin = pursuit(shape=shape, dtype=torch.float64, pursuit=kind, learn_steps=kind in ("basis", "deep"))
    before = {name: value.clone() for name, value in begin.state_dict().items()}
    options = {"learning_rate": 0.02, "momentum": 0.7, "random_state": 0}
    # With all samples in one batch their order does not matter.
    trained = train_layered(
        begin, X, y, n_epochs=4, batch_size=24, weight_decay=0.1, incoherence=0.5, parseval=0.01, **options
    )
    plain = LayeredClassifier(pursuit(shape=shape, dtype=torch.float64, pursuit=kind, learn_steps=True), 3)
    plain.head.load_state_dict(
        train_layered(begin, X, y, n_epochs=1, batch_size=24, **options | {"learning_rate": 1e-300}).head.state_dict()
    )
    velocities = {}
    for epoch in range(4):
        loss = functional.cross_entropy(plain(torch.as_tensor(X)), torch.as_tensor(y))
        for atoms, stride, codes in zip(
            plain.pursuit.atoms, plain.pursuit.stride, plain.pursuit.code_shapes, strict=True
        ):
            loss = loss + 0.5 * incoherence_penalty(atoms, stride, codes[:-1]) + 0.01 * parseval_penalty(atoms)
        assert trained.history[epoch]["loss"] == pytest.approx(loss.item(), rel=1e-9)
        plain.zero_grad()
        loss.backward()
        with torch.no_grad():
            for name, parameter in plain.named_parameters():
                decayed = parameter.ndim > 1
                slope = parameter.grad + (0.1 * parameter if decayed else 0)
                velocities[name] = slope + 0.7 * velocities.get(name, 0)
                parameter -= 0.02 * velocities[name]
    for name, parameter in trained.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-8, atol=1e-10)
    assert not trained.training and trained.head.weight.dtype == torch.float64
    for name, value in begin.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("kind", ["basis", "deep"])
def test_learns_and_stays_in_bounds(kind):
    X, y = data(90)
    trained = train_layered(
        pursuit(pursuit=kind, unit_norm=True, learn_steps=True),
        X,
        y,
        n_epochs=10,
        batch_size=16,
        learning_rate=0.1,
        random_state=0,
    )
    assert trained.history[-1]["accuracy"] > 0.95 > 0.8 > trained.history[0]["accuracy"]
    layered = trained.pursuit
    assert all((threshold >= 0).all() for threshold in layered.thresholds)
    assert ((layered.betas >= 0.1) & (layered.betas <= 1)).all()
    for atoms in layered.atoms:
        torch.testing.assert_close(atoms.flatten(1).norm(dim=1), torch.ones(len(atoms)))
    # The norms are those of the atoms as they are at the end.
    layers, _, _ = layered.feed_forward(torch.zeros(1, *layered.signal_shape))
    for operator, norm in zip(layers.operators, layered.norms, strict=True):
        codes = torch.eye(int(np.prod(operator.code_shape))).reshape(-1, *operator.code_shape)
        largest = torch.linalg.matrix_norm(operator.synthesize(codes).flatten(1), 2) ** 2
        assert norm.item() == pytest.approx(largest.item(), rel=1e-3)  # by power iteration
    X_adv = FGSM(eps=2.0, clip=None).perturb(trained, X.astype(np.float32), y)
    with torch.no_grad():
        assert (trained(torch.as_tensor(X_adv)).argmax(1).numpy() == y).mean() < 0.7


@pytest.mark.parametrize(
    ("schedule", "options"),
    [(None, {}), ("cosine", {"batch_norm": True}), (2, {"pursuit": "deep", "skip": "dense", "learn_steps": True})],
)
@pytest.mark.parametrize("stopped_at", ["a step", "the checkpoint"])
def test_resumed_training_equals_uninterrupted_training(tmp_path, monkeypatch, schedule, options, stopped_at):
    X, y = data(30)
    begin = pursuit(**options)
    before = {name: value.clone() for name, value in begin.state_dict().items()}
    train = {"n_epochs": 4, "batch_size": 8, "learning_rate": 0.05, "schedule": schedule, "random_state": 3}
    through = train_layered(begin, X, y, **train)
    owner, method = {
        "a step": (torch.optim.SGD, "step"),
        "the checkpoint": (TrainingCheckpoint, "write"),
    }[stopped_at]
    original, calls = getattr(owner, method), itertools.count()

    def stop(self, *arguments, **options):
        if next(calls) == (10 if stopped_at == "a step" else 2):
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    path = tmp_path / "training.pt"
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, stop)
        with pytest.raises(KeyboardInterrupt):
            train_layered(begin, X, y, **train, checkpoint=path)
    assert path.exists() and [p.name for p in tmp_path.iterdir()] == ["training.pt"]
    for name, value in begin.state_dict().items():
        assert torch.equal(value, before[name])
    assert_same(train_layered(begin, X, y, **train, checkpoint=path), through)
    monkeypatch.setattr(LayeredPursuit, "forward", None)  # nothing left to train
    assert_same(train_layered(begin, X, y, **train, checkpoint=path), through)


@pytest.mark.parametrize("schedule", [None, 2])
def test_more_epochs_from_a_checkpoint(tmp_path, schedule):
    X, y = data()

    def train(n_epochs, **options):
        drawn = np.random.RandomState(5)
        return train_layered(pursuit(), X, y, n_epochs=n_epochs, schedule=schedule, random_state=drawn, **options)

    for n_epochs in (2, 5):
        longer = train(n_epochs, checkpoint=str(tmp_path / "a.pt"))
    assert_same(longer, train(5))


def test_without_a_seed_a_checkpoint_is_resumed(tmp_path):
    X, y = data()
    first = train_layered(pursuit(), X, y, n_epochs=1, checkpoint=tmp_path / "a.pt")
    assert_same(train_layered(pursuit(), X, y, n_epochs=1, checkpoint=tmp_path / "a.pt"), first)


def test_checkpoints_of_other_trainings_are_refused(tmp_path):
    X, y = data()
    path = tmp_path / "training.pt"
    train = {"n_epochs": 2, "batch_size": 8, "random_state": 0, "checkpoint": path}
    train_layered(pursuit(), X, y, **train)
    content = path.read_bytes()
    for name, changed in {
        "learning_rate": {"learning_rate": 0.1},
        "batch_size": {"batch_size": 9},
        "momentum": {"momentum": 0.0},
        "weight_decay": {"weight_decay": 0.1},
        "schedule": {"schedule": 1},
        "parseval": {"parseval": 1.0},
        "incoherence": {"incoherence": 1.0},
        "random_state": {"random_state": 1},
    }.items():
        with pytest.raises(ValueError, match=f"belongs to another training: {name} "):
            train_layered(pursuit(), X, y, **{**train, **changed})
    for other in (pursuit(1), pursuit(max_iter=3), pursuit(momentum=False), pursuit(alpha=0.1)):
        with pytest.raises(ValueError, match="belongs to another training: pursuit "):
            train_layered(other, X, y, **train)
    for X_other, y_other in ((X + 1, y), (X, y[::-1])):
        with pytest.raises(ValueError, match="belongs to another training: X and y "):
            train_layered(pursuit(), X_other, y_other, **train)
    with pytest.raises(ValueError, match="holds 2 epochs, more than n_epochs=1"):
        train_layered(pursuit(), X, y, **{**train, "n_epochs": 1})
    assert path.read_bytes() == content


class Harmful:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_foreign_files_are_refused_and_never_run(tmp_path):
    X, y = data()
    path, harmed = tmp_path / "training.pt", tmp_path / "harmed"

    def train():
        train_layered(pursuit(), X, y, n_epochs=1, random_state=0, checkpoint=path)

    train()
    whole = path.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2], pickle.dumps(Harmful(harmed))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a checkpoint of a training"):
            train()
    for content in (Harmful(harmed), {"format": 1}, [1, 2], {"format": 9, "identity": {}, "state": {"history": []}}):
        torch.save(content, path)
        with pytest.raises(ValueError, match="is not a checkpoint of a training|has format 9"):
            train()
    assert not harmed.exists()
    with pytest.raises(FileNotFoundError, match="folder .* does not exist"):
        train_layered(pursuit(), X, y, n_epochs=1, checkpoint=tmp_path / "none" / "a.pt")


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [(None, [1] * 6), (1, [1, 1, 0.1, 0.1, 0.01, 0.01]), ("cosine", (1 + np.cos(np.pi * np.arange(6) / 6)) / 2)],
)
def test_schedules(monkeypatch, schedule, factors):
    X, y = data()
    taken, step = [], torch.optim.SGD.step

    def record(self, *arguments, **options):
        taken.append({group["lr"] for group in self.param_groups})
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", record)
    train_layered(pursuit(), X, y, n_epochs=3, batch_size=16, learning_rate=0.01, schedule=schedule)
    assert all(len(rate) == 1 for rate in taken)
    np.testing.assert_allclose([rate.pop() for rate in taken], 0.01 * np.array(factors))


def test_random_state_decides_and_global_generators_are_unchanged():
    X, y = data()
    state = torch.get_rng_state()
    first, same, other = (train_layered(pursuit(), X, y, n_epochs=2, batch_size=8, random_state=s) for s in (0, 0, 1))
    assert_same(first, same)
    assert not torch.equal(first.head.weight, other.head.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_uses_parameters_as_they_are():
    X, y = data(shape=(6, 5, 2))
    results = []
    for cache in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cache):
            results.append(train_layered(pursuit(), X, y, n_epochs=3, batch_size=8, random_state=0))
    assert_same(*results)
    full = train_layered(pursuit(), X, y, n_epochs=3, batch_size=8, random_state=0)
    # bfloat16 has 8 bits: products are known to half a per cent.
    assert results[0].history[-1]["loss"] == pytest.approx(full.history[-1]["loss"], rel=0.05)


def test_progress_bar(capsys):
    X, y = data()
    train_layered(pursuit(), X, y, n_epochs=2)
    assert capsys.readouterr() == ("", "")
    train_layered(pursuit(), X, y, n_epochs=2, verbose=1)
    printed = capsys.readouterr()
    assert re.search(r"train_layered: 100%.*2/2.*loss .*, accuracy", printed.err) and not printed.out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_epochs": 0}, r"'n_epochs' parameter of train_layered must be an int in the range \[1, inf\). Got 0"),
        ({"batch_size": 2.5}, "'batch_size' parameter .* Got 2.5"),
        ({"learning_rate": 0}, r"'learning_rate' parameter .* range \(0.0, inf\). Got 0"),
        ({"learning_rate": float("nan")}, "'learning_rate' parameter .* Got nan"),
        ({"momentum": 1.0}, r"'momentum' parameter .* range \[0.0, 1.0\). Got 1.0"),
        ({"weight_decay": -1}, r"'weight_decay' parameter .* range \[0.0, inf\). Got -1"),
        ({"incoherence": -0.1}, "'incoherence' parameter .* Got -0.1"),
        ({"parseval": float("inf")}, "'parseval' parameter .* Got inf"),
        ({"schedule": "linear"}, "'schedule' parameter .* Got 'linear'"),
        ({"schedule": 0}, "'schedule' parameter .* Got 0"),
        ({"X": np.zeros((24, 6, 5, 3))}, r"X must have shape \('n_samples', 6, 5, 2\), got \(24, 6, 5, 3\)"),
        ({"X": np.zeros((0, 6, 5, 2)), "y": np.zeros(0, int)}, "X must have shape"),
        ({"X": np.full((24, 6, 5, 2), np.nan)}, "X contains NaN or infinity"),
        ({"y": np.zeros(23, int)}, "one integer label for each of the 24 samples"),
        ({"y": np.zeros(24)}, "float64"),
        ({"y": np.zeros(24, int)}, "two classes or more"),
        ({"y": np.arange(24) % 3 + 1}, r"labels 0, ..., n_classes - 1 .* got \[1 2 3\]"),
        ({"X": np.full((24, 6, 5, 2), 1e30), "learning_rate": 1e3}, "learning rate 1000.0 is too high"),
    ],
)
def test_bad_input(changed, message):
    X, y = data()
    given = {"X": X, "y": y, **changed}
    with pytest.raises(ValueError, match=message):
        train_layered(pursuit(), given.pop("X"), given.pop("y"), **given)


def brute_incoherence(atoms, stride, code_grid):
    """Mean squared cosine over ordered pairs and shifts, atom by atom."""
    kernel = atoms.shape[1:-1]
    atoms = atoms / np.sqrt((atoms**2).sum(axis=tuple(range(1, atoms.ndim)), keepdims=True))
    largest = [
        (k - 1) // s if g is None else min((k - 1) // s, g - 1)
        for k, s, g in zip(kernel, stride, code_grid, strict=True)
    ]
    total, shifts = 0.0, list(itertools.product(*(range(-m, m + 1) for m in largest)))
    for shift in shifts:
        canvas = np.zeros((len(atoms), *(3 * k for k in kernel), atoms.shape[-1]))
        moved = canvas.copy()
        canvas[(slice(None), *(slice(k, 2 * k) for k in kernel))] = atoms
        moved[
            (slice(None), *(slice(k + d * s, 2 * k + d * s) for k, d, s in zip(kernel, shift, stride, strict=True)))
        ] = atoms
        gram = canvas.reshape(len(atoms), -1) @ moved.reshape(len(atoms), -1).T
        if not any(shift):
            np.fill_diagonal(gram, 0)
        total += (gram**2).sum()
    return total / (len(atoms) ** 2 * len(shifts))


@settings(max_examples=30, deadline=None)
@given(
    kernel=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    n_atoms=st.integers(1, 4),
    n_channels=st.integers(1, 3),
    data=st.data(),
)
def test_incoherence_against_shifting_each_atom(kernel, n_atoms, n_channels, data):
    stride = tuple(data.draw(st.integers(1, 3)) for _ in kernel)
    grid = data.draw(st.one_of(st.none(), st.tuples(*(st.integers(1, 4) for _ in kernel))))
    atoms = np.random.default_rng(0).normal(size=(n_atoms, *kernel, n_channels))
    penalty = incoherence_penalty(torch.as_tensor(atoms), stride, grid)
    expected = brute_incoherence(atoms, stride, grid or [None] * len(kernel))
    assert penalty.item() == pytest.approx(expected, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("n_atoms", [3, 8, 30])
def test_parseval_penalty(n_atoms):
    atoms = np.random.default_rng(0).normal(size=(n_atoms, 2, 2, 2))
    values = np.linalg.svd(atoms.reshape(n_atoms, -1), compute_uv=False)
    penalty = parseval_penalty(torch.as_tensor(atoms)).item()
    assert penalty == pytest.approx(((values**2 - 1) ** 2).sum())
    zero = torch.zeros(2, 3, 3, 1, requires_grad=True)
    (parseval_penalty(zero) + incoherence_penalty(zero)).backward()
    assert torch.isfinite(zero.grad).all()


def test_skorch_loads_late():
    code = "import sys, skrobust.nn; print('skorch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
