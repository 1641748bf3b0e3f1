"""Constraints of parameters hold after any step, and survive copying, pickling and state dicts."""

import copy
import io
import itertools
import pickle

import numpy as np
import pytest
import torch

from skrobust.nn import LayeredPursuit
from skrobust.nn.constraints import Between, UnitNorm
from skrobust.nn.norms import update_squared_norm


def pursuit(dtype=torch.float32, **options):
    rng = np.random.default_rng(0)
    atoms = [rng.normal(size=(4, 3, 3, 2)), rng.normal(size=(5, 2, 2, 4))]
    options = {"pursuit": "basis", "alpha": 0.02, "unit_norm": True, "learn_steps": True, "max_iter": 2, **options}
    return LayeredPursuit(atoms, (7, 6, 2), **options).to(dtype)


def outputs(module, X):
    with torch.no_grad():
        return module(X)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_bounds_hold_after_every_step_of_any_optimizer(optimizer):
    module = pursuit()
    steps = optimizer(module.parameters(), lr=0.3)
    X = torch.randn(4, 7, 6, 2, generator=torch.Generator().manual_seed(0))
    before = [atoms.clone() for atoms in module.atoms]
    for sign in (1, -1, 1):
        for _ in range(5):
            steps.zero_grad()
            sum(sign * codes.sum() for codes in module(X)).backward()
            steps.step()
            assert all((threshold >= 0).all() for threshold in module.thresholds)
            assert ((module.betas >= 0.1) & (module.betas <= 1)).all()
            for atoms in module.atoms:
                torch.testing.assert_close(atoms.flatten(1).norm(dim=1), torch.ones(len(atoms)))
    assert not any(torch.allclose(a, b) for a, b in zip(before, module.atoms, strict=True))


def test_a_threshold_at_zero_can_rise_but_has_no_gradient_downwards():
    clip = Between(low=0.0, high=1.0)
    values = torch.tensor([0.0, 0.0, -0.5, -0.5, 0.5, 1.0, 1.0, 2.0], requires_grad=True)
    slopes = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, -1.0])
    clipped = clip(values)
    assert clipped.tolist() == [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0]
    clipped.backward(slopes)
    assert values.grad.tolist() == [0.0, -1.0, 0.0, -1.0, 1.0, 1.0, 0.0, 0.0]


def test_gradients_of_unit_norm_atoms():
    atoms = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(UnitNorm(), (atoms,))
    zeros = torch.zeros(2, 3, 3, 1, requires_grad=True)
    UnitNorm()(zeros).sum().backward()
    assert not UnitNorm()(zeros).any() and torch.isfinite(zeros.grad).all()


@pytest.mark.parametrize("options", [{}, {"unit_norm": False}, {"pursuit": "deep", "batch_norm": True}])
def test_copies_pickles_and_state_dicts_give_the_same_codes(options):
    module, X = pursuit(**options).eval(), torch.randn(3, 7, 6, 2)
    with torch.no_grad():  # stored values beyond their bounds
        module.parametrizations.betas.original[0] = 3.0
        module.thresholds.parametrizations["0"].original[0] = -1.0
    expected = outputs(module, X)
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    loaded = pursuit(**options).eval()
    loaded.load_state_dict(module.state_dict())
    for other in (
        copy.deepcopy(module),
        copy.copy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(stream, weights_only=False),
        loaded,
    ):
        for codes, wanted in zip(outputs(other, X), expected, strict=True):
            assert torch.equal(codes, wanted)
        for name, value in module.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name
        assert isinstance(other, LayeredPursuit)
    again = pickle.loads(pickle.dumps(module))
    with torch.no_grad():
        again.parametrizations.betas.original[0] = 0.0
    assert again.betas[0].item() == pytest.approx(0.1) and module.betas[0].item() == 1.0  # nothing is shared


def test_arrays_have_the_constrained_values():
    module = pursuit(torch.float64)
    layers, thresholds, _ = module.as_arrays(np.float64)
    for atoms, threshold in zip(layers.components, thresholds, strict=True):
        np.testing.assert_allclose(np.linalg.norm(atoms.reshape(len(atoms), -1), axis=1), 1)
        assert (threshold >= 0).all()


def test_assigned_atoms_are_normalised():
    module = pursuit()
    module.atoms[0] = 7 * torch.ones(4, 3, 3, 2)
    torch.testing.assert_close(module.atoms[0], torch.full((4, 3, 3, 2), 18**-0.5))


def test_power_iteration_rises_to_the_squared_norm():
    matrix = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    start = torch.randn(1, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    direction, estimates = start.clone(), []
    for _ in range(60):
        squared = update_squared_norm(direction, lambda v: v @ matrix.T, lambda u: u @ matrix, 1)
        estimates.append(squared.item())
    exact = torch.linalg.matrix_norm(matrix, 2).item() ** 2
    assert all(later >= (1 - 1e-12) * sooner for sooner, later in itertools.pairwise(estimates))
    assert estimates[-1] == pytest.approx(exact, rel=1e-6)
    at_once = start.clone()
    squared = update_squared_norm(at_once, lambda v: v @ matrix.T, lambda u: u @ matrix, 60)
    assert squared.item() == pytest.approx(estimates[-1], rel=1e-12)  # a warm start loses nothing
    zero = torch.zeros(1, 9, dtype=torch.float64)
    assert 0 < update_squared_norm(zero, lambda v: v, lambda u: u, 3).item() < 1e-300
