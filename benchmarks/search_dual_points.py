"""Which dual point certifies the convolutional lasso best: the residual, extrapolated residuals, or a Newton point?

    python benchmarks/search_dual_points.py      # some minutes; benchmarks/results/search_dual_points.json

At several numbers of iterations on three of the problems of `bench_csc_problems.py`: the distance from the least
objective, and the gap of each candidate, scaled per pixel as skrobust does, relative to the objective. "extrapolated"
is the affine combination of the last three or five residuals whose differences cancel best (Anderson; Celer's dual
extrapolation). "Newton" is the residual after conjugate gradients on the support with the signs fixed, 8 or 20 steps.
"""

import warnings

import numpy as np
from _race import RESULTS, machine, write_json
from bench_csc_problems import PROBLEMS, Task
from numpy.lib.stride_tricks import sliding_window_view

from skrobust.pursuits import convolutional_basis_pursuit

NAMES = [name for name in PROBLEMS if name.startswith("tune") and PROBLEMS[name][5] == 0.05]
STOPS = (24, 32, 40, 50, 60, 80, 100, 130, 160, 200)


def dual_value(task, point):
    """Lower bound of a point at its best feasible scale, and the largest correlation at each position."""
    peaks = np.abs(task.exact.analyze(point)).max(axis=-1)[0]
    products, squares = (point * task.X).sum(), (point * point).sum()
    scale = max(0.0, min(products / squares, task.alpha / peaks.max()))
    return scale * products - 0.5 * scale * scale * squares, peaks


def bound(task, point):
    """The better bound of one factor and of a factor for each pixel."""
    single, peaks = dual_value(task, point)
    geometry = task.exact.geometry
    (tall, wide), (top, left) = geometry.kernel_size, geometry.offset
    height, width = task.X.shape[1:3]
    allowed = np.minimum(1, task.alpha / np.maximum(peaks, 1e-300))
    padded = np.pad(allowed, ((tall, tall), (wide, wide)), **(
        {"mode": "wrap"} if geometry.wraps else {"constant_values": 1.0}
    ))  # fmt: skip
    smallest = sliding_window_view(padded, (tall, wide)).min(axis=(2, 3))
    factors = smallest[top + 1 : top + 1 + height, left + 1 : left + 1 + width]
    return max(single, dual_value(task, point * factors[None, ..., None])[0])


def newton_point(task, codes, residual, n_steps):
    support, signs = codes != 0, task.alpha * np.sign(codes)
    residual = residual.copy()
    slopes = (task.exact.analyze(residual) - signs) * support
    direction, squared = slopes.copy(), (slopes * slopes).sum()
    for _ in range(n_steps):
        image = task.exact.synthesize(direction)
        residual -= squared / (image * image).sum() * image
        slopes = (task.exact.analyze(residual) - signs) * support
        direction, squared = slopes + (slopes * slopes).sum() / squared * direction, (slopes * slopes).sum()
    return residual


def extrapolated(residuals, n):
    if len(residuals) <= n:
        return residuals[-1]
    stacked = np.stack([residual.ravel() for residual in residuals[-n - 1 :]])
    differences = np.diff(stacked, axis=0)
    gram = differences @ differences.T
    weights = np.linalg.lstsq(gram + 1e-12 * np.trace(gram) * np.eye(n), np.ones(n), rcond=None)[0]
    return (weights / weights.sum() @ stacked[1:]).reshape(residuals[-1].shape)


def study(task):
    rows, residuals = [], []
    for stop in STOPS:
        result = convolutional_basis_pursuit(task.X, task.operator, task.alpha, tol=0, max_iter=stop)
        codes = result.codes.astype(float)
        residual = task.X - task.exact.synthesize(codes)
        residuals.append(residual)
        objective = float(0.5 * (residual**2).sum() + task.alpha * np.abs(codes).sum())
        points = {"residual": residual}
        points |= {f"Newton, {n} steps": newton_point(task, codes, residual, n) for n in (8, 20)}
        points |= {f"extrapolated from {n}": extrapolated(residuals, n) for n in (3, 5)}
        row = {"max_iter": stop, "distance": objective / task.least - 1}
        row |= {name: (objective - bound(task, point)) / task.least for name, point in points.items()}
        rows.append(row)
    return rows


def main():
    warnings.simplefilter("ignore")
    content = {"what": __doc__.splitlines()[0], "machine": machine("numpy", "numba"), "problems": {}}
    for name in NAMES:
        content["problems"][name] = study(Task(*PROBLEMS[name]))
        print(name, *content["problems"][name], sep="\n", flush=True)
    names = [key for key in content["problems"][NAMES[0]][0] if key not in ("max_iter", "distance", "residual")]
    rows = [row for problem in content["problems"].values() for row in problem]
    content["gap_relative_to_the_residual's"] = {
        name: {
            "median": float(np.median([row[name] / row["residual"] for row in rows])),
            "least": float(min(row[name] / row["residual"] for row in rows)),
        }
        for name in names
    }
    print(content["gap_relative_to_the_residual's"])
    write_json(RESULTS / "search_dual_points.json", content)


if __name__ == "__main__":
    main()
