"""The set that attacks stay in: exact bounds, projections and linear optima against independent solvers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from skrobust.attacks.core.ball import NORMS, Ball, vector_norm
from skrobust.attacks.core.streams import ImageStreams

norms = pytest.mark.parametrize("norm", NORMS)


def _case(seed, shape, dtype, scale=1.0):
    rng = np.random.default_rng(seed)
    x = torch.as_tensor(rng.uniform(0, 1, size=shape)).to(dtype)
    y = torch.as_tensor(x.double().numpy() + scale * rng.standard_normal(shape)).to(dtype)
    return x, y


def _box(dtype):
    return torch.tensor(0.0, dtype=dtype), torch.tensor(1.0, dtype=dtype)


@given(
    seed=st.integers(0, 2**31 - 1),
    n_features=st.integers(1, 40),
    eps=st.floats(1e-9, 30),
    scale=st.sampled_from([1e-6, 0.1, 1, 1e4]),
    norm=st.sampled_from(NORMS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    boxed=st.booleans(),
)
def test_stored_points_are_inside_exactly(seed, n_features, eps, scale, norm, dtype, boxed):
    x, y = _case(seed, (3, n_features), dtype, scale)
    ball = Ball(x, eps, norm, _box(dtype) if boxed else None)
    streams = ImageStreams(seed)
    points = [
        ball.project(y),
        ball.farthest(y - x),
        ball.sample(streams, range(3)),
        ball.sample(streams, range(3), surface=True),
        ball.project(x + eps * ball.direction(x, y - x)),
    ]
    for point in points:
        assert point.dtype == dtype
        assert bool((vector_norm(point.double() - x.double(), norm) <= eps).all())
        if boxed:
            assert float(point.min()) >= 0 and float(point.max()) <= 1


def test_largest_images_of_the_box_are_reached_in_float32():
    x = torch.tensor([[0.3, 0.7, 0.123456]], dtype=torch.float32)
    for eps in (0.1, 8 / 255, 1e-7):
        point = Ball(x, eps, "linf").farthest(torch.ones(1, 3))
        above = torch.nextafter(point, torch.tensor(2.0))
        assert bool((point.double() - x.double() <= eps).all())
        assert bool((above.double() - x.double() > eps).all()), "one more unit in the last place had been possible"


@norms
def test_eps_below_the_spacing_of_the_dtype_changes_nothing(norm):
    x = torch.full((2, 3), 0.75, dtype=torch.float32)
    ball = Ball(x, 1e-12, norm, _box(torch.float32))
    assert torch.equal(ball.farthest(torch.ones(2, 3)), x)
    assert torch.equal(ball.project(torch.zeros(2, 3)), x)


def test_data_a_rounding_error_outside_the_box_are_accepted():
    x = torch.tensor([[1.0 + 2e-16, 0.5]], dtype=torch.float64)
    point = Ball(x, 0.1, "linf", _box(torch.float64)).farthest(torch.tensor([[1.0, 1.0]]))
    np.testing.assert_allclose(point, [[1.0, 0.6]])


@norms
@pytest.mark.parametrize("seed", range(6))
def test_projection_is_the_nearest_point(norm, seed):
    """Against scipy's general constrained solver."""
    x, y = _case(seed, (1, 6), torch.float64)
    eps = [0.3, 0.9, 1.5][seed % 3]
    projected = Ball(x, eps, norm, _box(torch.float64)).project(y).numpy().ravel()
    x, y = x.numpy().ravel(), y.numpy().ravel()
    if norm == "l2":
        ball = [{"type": "ineq", "fun": lambda z: eps**2 - ((z - x) ** 2).sum()}]
        expected = optimize.minimize(
            lambda z: ((z - y) ** 2).sum(), x, bounds=[(0, 1)] * 6, constraints=ball, tol=1e-14
        ).x
    elif norm == "l1":
        # x + p - q with p, q >= 0 makes the l1 ball smooth.
        expected = optimize.minimize(
            lambda z: ((x + z[:6] - z[6:] - y) ** 2).sum(),
            np.zeros(12),
            bounds=[(0, 1 - v) for v in x] + [(0, v) for v in x],
            constraints=[{"type": "ineq", "fun": lambda z: eps - z.sum()}],
            tol=1e-14,
        ).x
        expected = x + expected[:6] - expected[6:]
    else:
        expected = np.clip(np.clip(y, x - eps, x + eps), 0, 1)
    np.testing.assert_allclose(projected, expected, atol=2e-6)


@norms
@pytest.mark.parametrize("seed", range(6))
def test_farthest_point_is_the_linear_optimum(norm, seed):
    """Against linear programming (linf, l1) and a general solver (l2), all over the ball cut by the box."""
    x, y = _case(seed, (1, 6), torch.float64)
    gradient = (y - x).numpy().ravel()
    eps = [0.2, 0.9, 2.5][seed % 3]
    value = float(gradient @ (Ball(x, eps, norm, _box(torch.float64)).farthest(y - x) - x).numpy().ravel())
    x = x.numpy().ravel()
    bounds = [(0, 1 - v) for v in x] + [(0, v) for v in x]
    both = np.concatenate([gradient, -gradient])
    if norm == "l2":
        result = optimize.minimize(
            lambda z: -(gradient @ z),
            np.zeros(6),
            jac=lambda z: -gradient,
            bounds=[(-v, 1 - v) for v in x],
            constraints=[{"type": "ineq", "fun": lambda z: eps**2 - z @ z, "jac": lambda z: -2 * z}],
            tol=1e-14,
        )
    elif norm == "l1":
        result = optimize.linprog(-both, A_ub=np.ones((1, 12)), b_ub=[eps], bounds=bounds)
    else:
        result = optimize.linprog(-both, bounds=[(0, min(eps, high)) for _, high in bounds])
    assert value == pytest.approx(-result.fun, abs=1e-7)


@norms
def test_projection_does_not_change_points_of_the_set(norm):
    x, _ = _case(0, (5, 7), torch.float64)
    ball = Ball(x, 0.4, norm, _box(torch.float64))
    point = ball.sample(ImageStreams(1), range(5))
    np.testing.assert_allclose(ball.project(point), point, atol=1e-14)


@norms
def test_gradients_that_vanish_or_are_huge(norm):
    x, _ = _case(3, (3, 5), torch.float64)
    gradient = torch.tensor([[0.0] * 5, [1e-300] * 5, [1e300] * 5], dtype=torch.float64)
    ball = Ball(x, 0.1, norm)
    direction = ball.direction(x, gradient)
    assert bool(torch.isfinite(direction).all()) and float(direction[0].abs().max()) == 0
    length = vector_norm(direction, norm)
    np.testing.assert_allclose(length[1:], 1)
    assert torch.equal(ball.farthest(gradient)[0], x[0])
    moved = vector_norm(ball.farthest(gradient) - x, norm)
    np.testing.assert_allclose(moved[1:], 0.1, rtol=1e-12)


@norms
def test_uniform_noise_fills_the_ball(norm):
    """In d dimensions half of the ball's volume lies beyond the radius 0.5^(1/d)."""
    x = torch.zeros(4000, 3, dtype=torch.float64)
    radius = vector_norm(Ball(x, 1.0, norm).sample(ImageStreams(0), range(4000)), norm).numpy()
    assert np.mean(radius > 0.5 ** (1 / 3)) == pytest.approx(0.5, abs=0.032)  # 4 standard errors of 4000 draws
    surface = vector_norm(Ball(x, 1.0, norm).sample(ImageStreams(0), range(4000), surface=True), norm).numpy()
    np.testing.assert_allclose(surface, 1)


def test_random_streams_depend_on_the_image_alone():
    streams = ImageStreams(7)

    def sample(generator):
        return generator.normal(size=2)

    together = streams.draw([4, 9], sample, restart=1)
    alone = ImageStreams(7).draw([9], sample, restart=1)
    np.testing.assert_array_equal(together[1], alone[0])
    others = [
        streams.draw([9], sample),
        streams.draw([9], sample, restart=1, block=1),
        ImageStreams(8).draw([9], sample),
    ]
    assert all(not np.array_equal(alone, other) for other in others)
