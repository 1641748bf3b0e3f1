"""Proximal steps of arrays in one pass, against plain NumPy."""

import numpy as np
import pytest

from skrobust.operators.layered.kernels import extrapolate, half_squares_and_penalties, shrink_and_extrapolate


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 3, 4, 7), (1, 9, 1), (3, 1, 1, 33)])
def test_one_pass_is_numpy(shape, dtype):
    rng = np.random.default_rng(0)
    point, before, slopes = rng.normal(size=(3, *shape)).astype(dtype)
    slopes = slopes[..., ::-1]  # not contiguous
    before.flags.writeable = False
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-14}
    for thresholds in (0.4, np.asarray(0.4), rng.uniform(0, 1, size=shape[-1])):
        value = point + 0.3 * slopes
        for positive in (True, False):
            wanted = np.maximum(value - thresholds, 0)
            if not positive:
                wanted = np.sign(value) * np.maximum(abs(value) - thresholds, 0)
            for momentum in (0.0, 0.7):
                for n_jobs in (1, 2):
                    step = np.asarray(0.3, dtype=dtype)
                    codes, carried = shrink_and_extrapolate(
                        point, before, slopes, step, thresholds, momentum, positive, n_jobs
                    )
                    assert codes.dtype == carried.dtype == dtype
                    np.testing.assert_allclose(codes, wanted, **tolerance)
                    np.testing.assert_allclose(carried, wanted + momentum * (wanted - before), **tolerance)
        residual = point[..., :1]
        result = half_squares_and_penalties(residual, point, thresholds)
        axes = tuple(range(1, point.ndim))
        expected = (residual.astype(float) ** 2).sum(axis=axes) / 2 + (abs(point.astype(float)) * thresholds).sum(
            axis=axes
        )
        np.testing.assert_allclose(result, expected, rtol=1e-12)
    momentum = rng.uniform(size=len(point)).astype(dtype)
    by_sample = momentum.reshape(-1, *[1] * (point.ndim - 1))
    np.testing.assert_allclose(extrapolate(before, point, momentum), point + by_sample * (point - before), **tolerance)


def test_negative_thresholds_of_batch_normalisation():
    point = np.array([[-0.5, 0.2, -2.0]])
    codes, _ = shrink_and_extrapolate(point, point, point, 0.0, np.array([-1.0, 0.1, -1.0]), 0.0, True)
    np.testing.assert_allclose(codes, [[0.5, 0.1, 0.0]])
