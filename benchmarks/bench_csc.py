"""Convolutional sparse coding and dictionary learning, against SPORCO and torch, at equal objective.

    python benchmarks/bench_csc.py                 # all parts, about 4 minutes; benchmarks/results/bench_csc.json
    python benchmarks/bench_csc.py --part image    # one part; the others are kept from the file

"image": one 256 x 256 photograph, 32 random filters of 8 x 8, circular, 0.05 alpha_max. "batch": 256 colour images of
32 x 32, 64 filters of 5 x 5 x 3, zero padding. "learning": 10 crops of 96 x 96, 32 atoms of 8 x 8, circular. All
float32. Everyone's time is that to the same relative distance from the least objective, which a long run in double
precision certifies. SPORCO's objective is taken after every iteration, off the clock; skrobust, which certifies its
own gap, is run to the largest tolerance that reaches the target.
"""

import argparse
import json
import time
import warnings

import numpy as np
import torch
from _race import RESULTS, machine, write_json
from scipy.ndimage import gaussian_filter
from skimage import data, transform
from sporco import signal
from sporco.admm import cbpdn as admm
from sporco.dictlrn import cbpdndl
from sporco.pgm import cbpdn as pgm
from threadpoolctl import threadpool_limits

from skrobust.dictionaries import ConvolutionalLearner
from skrobust.pursuits import ConvolutionalOperator, convolutional_alpha_max, convolutional_basis_pursuit

TARGETS = (1e-3, 1e-4)
TOLERANCES = (0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


def quietly(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def objective(X, operator, codes, alpha):
    """In double precision."""
    exact = ConvolutionalOperator(operator.components.astype(float), operator.signal_shape, padding=operator.padding)
    total = 0.0
    for first in range(0, len(X), 16):
        z = np.asarray(codes[first : first + 16], dtype=float)
        total += 0.5 * ((X[first : first + 16] - exact.synthesize(z)) ** 2).sum() + alpha * np.abs(z).sum()
    return float(total)


def least_objective(X, operator, alpha):
    """Objective and relative gap of a long run in double precision."""
    exact = ConvolutionalOperator(operator.components.astype(float), operator.signal_shape, padding=operator.padding)
    result = quietly(convolutional_basis_pursuit, X.astype(float), exact, alpha, tol=1e-5, max_iter=20_000)
    return float(result.objective.sum()), float(result.gap.sum() / result.objective.sum())


def our_times(X, operator, alpha, least, n_jobs, rounds):
    """Seconds of the largest tolerance that reaches each target, least of the rounds."""
    found = {}
    for tol in TOLERANCES:
        codes = quietly(convolutional_basis_pursuit, X, operator, alpha, tol=tol, n_jobs=n_jobs).codes
        distance = objective(X, operator, codes, alpha) / least - 1
        reached = [target for target in TARGETS if target not in found and distance <= target]
        if reached:
            seconds = []
            for _ in range(rounds):
                start = time.perf_counter()
                quietly(convolutional_basis_pursuit, X, operator, alpha, tol=tol, n_jobs=n_jobs)
                seconds.append(time.perf_counter() - start)
            for target in reached:
                found[target] = {"seconds": min(seconds), "tol": tol, "distance": distance}
        if len(found) == len(TARGETS):
            break
    return {f"{target:g}": found.get(target) for target in TARGETS}


def sporco_times(module, components, image, alpha, operator, least, options, most):
    """Seconds to each target; objectives are computed while the clock stands still."""
    clock = {"run": 0.0, "since": 0.0}
    reached = {}

    def callback(solver):
        clock["run"] += time.perf_counter() - clock["since"]
        codes = np.asarray(solver.getcoef()).reshape(1, *image.shape, -1)
        distance = objective(image[None, ..., None], operator, codes, alpha) / least - 1
        for target in TARGETS:
            if distance <= target and target not in reached:
                reached[target] = {"seconds": clock["run"], "iterations": solver.k + 1}
        clock["since"] = time.perf_counter()
        return len(reached) == len(TARGETS)

    settings = {"Verbose": False, "RelStopTol": 1e-12, "MaxMainIter": most, "Callback": callback, **options}
    solver = module.ConvBPDN(components, image, alpha, module.ConvBPDN.Options(settings), dimK=0)
    clock["since"] = time.perf_counter()
    solver.solve()
    return {f"{target:g}": reached.get(target) for target in TARGETS}


def race_image(rounds):
    image = transform.resize(data.camera().astype(float) / 255, (256, 256), anti_aliasing=True).astype(np.float32)
    image = np.asarray(signal.tikhonov_filter(image, 5, 16)[1], dtype=np.float32)
    components = np.random.default_rng(0).standard_normal((8, 8, 32)).astype(np.float32)
    components /= np.sqrt((components**2).sum((0, 1)))
    operator = ConvolutionalOperator(np.moveaxis(components, -1, 0)[..., None], (256, 256, 1), padding="circular")
    X = image[None, ..., None]
    alpha = 0.05 * float(convolutional_alpha_max(X, operator)[0])
    least, gap = least_objective(X, operator, alpha)
    times = {f"skrobust, {n} thread{'s' * (n > 1)}": our_times(X, operator, alpha, least, n, rounds) for n in (2, 1)}
    rivals = {
        "SPORCO ADMM, automatic rho": (admm, {"AutoRho": {"Enabled": True, "Period": 1}, "RelaxParam": 1.8}, 120),
        "SPORCO ADMM, rho adapted from 10 alpha": (admm, {"rho": 10 * alpha, "RelaxParam": 1.8}, 150),
        "SPORCO ADMM, rho adapted from 25 alpha": (admm, {"rho": 25 * alpha, "RelaxParam": 1.8}, 150),
        **{
            f"SPORCO ADMM, rho = {n} alpha": (
                admm,
                {"rho": n * alpha, "RelaxParam": 1.8, "AutoRho": {"Enabled": False}},
                150,
            )
            for n in (10, 25)
        },
        "SPORCO PGM, exact L": (pgm, {"L": operator.lipschitz}, 250),
    }
    for name, (module, options, most) in rivals.items():
        times[name] = sporco_times(module, components, image, alpha, operator, least, options, most)
    return {"alpha": alpha, "least_objective": least, "relative_gap_of_least": gap, "times": times}


def torch_fista_times(X, operator, alpha, least, chunk, most_seconds):
    """Plain FISTA with adaptive restart in chunks that stay in the cache; the objective every ten iterations."""
    weights = torch.from_numpy(np.moveaxis(operator.components, -1, 1).copy())
    parts = [torch.from_numpy(np.moveaxis(X[i : i + chunk], -1, 1).copy()) for i in range(0, len(X), chunk)]
    conv, transposed = torch.nn.functional.conv2d, torch.nn.functional.conv_transpose2d
    step, margin = 1 / operator.lipschitz, operator.components.shape[1] // 2
    states = [[torch.zeros(len(x), len(weights), *x.shape[2:])] * 2 + [1.0] for x in parts]
    reached, run, iterations = {}, 0.0, 0
    while run < most_seconds and len(reached) < len(TARGETS):
        start = time.perf_counter()
        with torch.no_grad():
            for x, state in zip(parts, states, strict=True):
                z, y, t = state
                for _ in range(10):
                    slopes = conv(transposed(y, weights, padding=margin).sub_(x), weights, padding=margin)
                    ahead = torch.nn.functional.softshrink(slopes.mul_(-step).add_(y), alpha * step)
                    move = ahead - z
                    if float(torch.dot((y - ahead).flatten(), move.flatten())) > 0:
                        t = 1.0
                    later = (1 + (1 + 4 * t * t) ** 0.5) / 2
                    y, z, t = ahead + (t - 1) / later * move, ahead, later
                state[:] = z, y, t
        run += time.perf_counter() - start
        iterations += 10
        codes = np.concatenate([np.moveaxis(state[0].numpy(), 1, -1) for state in states])
        distance = objective(X, operator, codes, alpha) / least - 1
        for target in TARGETS:
            if distance <= target and target not in reached:
                reached[target] = {"seconds": run, "iterations": iterations}
    return {f"{target:g}": reached.get(target) for target in TARGETS}


def colour_crops(n):
    rng = np.random.default_rng(0)
    photographs = [image / 255 for image in (data.astronaut(), data.chelsea(), data.coffee())]
    photographs = [(p - gaussian_filter(p, (3, 3, 0))).astype(np.float32) for p in photographs]
    X = np.empty((n, 32, 32, 3), np.float32)
    for i in range(n):
        photograph = photographs[i % 3]
        y, x = (rng.integers(size - 32) for size in photograph.shape[:2])
        X[i] = photograph[y : y + 32, x : x + 32]
    components = rng.standard_normal((64, 5, 5, 3)).astype(np.float32)
    return X, components / np.sqrt((components**2).sum((1, 2, 3), keepdims=True))


def race_batch(rounds):
    X, components = colour_crops(256)
    operator = ConvolutionalOperator(components, (32, 32, 3))
    middle = float(np.median(convolutional_alpha_max(X, operator)))
    results = {}
    for share in (0.1, 0.05):
        alpha = share * middle
        least, gap = least_objective(X, operator, alpha)
        times = {
            f"skrobust, {n} thread{'s' * (n > 1)}": our_times(X, operator, alpha, least, n, rounds) for n in (2, 1)
        }
        times["torch FISTA with restart, chunks of 16, 2 threads"] = torch_fista_times(
            X, operator, alpha, least, 16, 40
        )
        results[f"{share:g} alpha_max"] = {
            "alpha": alpha,
            "least_objective": least,
            "relative_gap_of_least": gap,
            "times": times,
        }
    return results


def race_learning(rounds):
    """Objective that the dictionaries learned so far allow on the training images, against time."""
    rng = np.random.default_rng(0)
    photograph = np.asarray(signal.tikhonov_filter(data.camera().astype(np.float32) / 255, 5, 16)[1], dtype=np.float32)
    corners = rng.integers(512 - 96, size=(10, 2))
    X = np.stack([photograph[y : y + 96, x : x + 96] for y, x in corners])[..., None]
    start = rng.standard_normal((32, 8, 8, 1)).astype(np.float32)
    start /= np.sqrt((start**2).sum((1, 2, 3), keepdims=True))
    alpha = 0.1

    def worth(components):
        operator = ConvolutionalOperator(np.ascontiguousarray(components), (96, 96, 1), padding="circular")
        return float(quietly(convolutional_basis_pursuit, X, operator, alpha, tol=0.01).objective.mean())

    curves = {}
    for name, batch in (("skrobust, batch", None), ("skrobust, online, batches of 2", 2)):
        learner = ConvolutionalLearner(start, alpha, padding="circular", tol=0.02, random_state=0, n_jobs=2)
        run, curve = 0.0, []
        for _ in range(12):
            begin = time.perf_counter()
            learner.epoch(X) if batch is None else learner.pass_online(X, batch)
            run += time.perf_counter() - begin
            curve.append({"seconds": run, "objective": worth(learner.components)})
        curves[name] = curve
    clock, curve = {"run": 0.0, "since": 0.0}, []

    def callback(solver):
        clock["run"] += time.perf_counter() - clock["since"]
        if solver.j % 10 == 9:
            components = np.moveaxis(np.asarray(solver.getdict()).reshape(8, 8, 32), -1, 0)[..., None]
            curve.append({"seconds": clock["run"], "objective": worth(components.astype(np.float32))})
        clock["since"] = time.perf_counter()
        return False

    options = cbpdndl.ConvBPDNDictLearn.Options({"Verbose": False, "MaxMainIter": 100, "Callback": callback})
    solver = cbpdndl.ConvBPDNDictLearn(
        np.moveaxis(start[..., 0], 0, -1), np.moveaxis(X[..., 0], 0, -1), alpha, options, dimK=1
    )
    clock["since"] = time.perf_counter()
    solver.solve()
    curves["SPORCO ConvBPDNDictLearn"] = curve
    goal = curve[-1]["objective"]
    first = {
        name: next((point["seconds"] for point in points if point["objective"] <= goal), None)
        for name, points in curves.items()
    }
    return {"alpha": alpha, "objective_at_start": worth(start), "seconds_to_sporcos_last": first, "curves": curves}


PARTS = {"image": race_image, "batch": race_batch, "learning": race_learning}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default=RESULTS / "bench_csc.json")
    args = parser.parse_args()
    torch.set_num_threads(2)
    try:
        with open(args.output, encoding="utf8") as file:
            result = json.load(file)
    except FileNotFoundError:
        result = {}
    result["machine"] = machine("numpy", "numba", "sporco", "torch")
    with threadpool_limits(1, user_api="blas"):
        for part in [args.part] if args.part else PARTS:
            result[part] = PARTS[part](args.rounds)
            write_json(args.output, result)
            print(part, json.dumps(result[part], indent=1)[:3000])


if __name__ == "__main__":
    main()
