"""Convolutional basis pursuit on twelve problems, against SPORCO at its best setting for each.

    python benchmarks/bench_csc_problems.py                      # half an hour; results/bench_csc_problems.json
    python benchmarks/bench_csc_problems.py --only coins         # problems whose name contains a word

Three photographs (one in colour), less their Gaussian mean; random, cosine and learned atoms of 5 x 5 to 12 x 12; 0.1,
0.05 and 0.02 alpha_max; circular and zero padding ("same"); float32. Constants of skrobust were chosen on the six
problems named "tune" only.

Times are those until the objective is within 1e-3 and 1e-4 of the least one, which a long run in double precision
certifies: CPU seconds on one thread; wall clock on two threads; and the same beside a process that keeps one core busy.
SPORCO gets ADMM with several fixed and an automatic rho for each problem (for "same" padding by AddMaskSim and by mask
decoupling, without codes outside the grid); the fastest setting counts, by target. Its objective is computed after each
iteration and not timed. skrobust is run to the largest tolerance that reaches the target; "certified" is its time at
the default tolerance. "trace" holds, for one thread, its gap, its distance from the least objective and its CPU seconds
at several tolerances; `--trace` measures these anew and draws docs/images/convolutional_gap.png.
"""

import argparse
import json
import multiprocessing
import time
import warnings

import numpy as np
import sporco.fft
from _race import RESULTS, machine, write_json
from scipy.ndimage import gaussian_filter
from skimage import data, transform
from sporco.admm import cbpdn
from threadpoolctl import threadpool_limits

from skrobust import ConvSparseCoder
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_alpha_max, convolutional_basis_pursuit

TARGETS = (1e-3, 1e-4)
TOLERANCES = (0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0003, 0.0001)
MOST_ITERATIONS, OUTSIDE = 200, 1e4
"""Of ADMM; its penalty, relative to alpha, on codes outside the grid."""

PROBLEMS = {  # photograph, side, atoms, their number and size, alpha / alpha_max, padding
    "tune: camera, random 8 x 8, 0.05, circular": ("camera", 256, "random", 32, 8, 0.05, "circular"),
    "tune: coins, cosine 5 x 5, 0.1, same": ("coins", 256, "cosine", 24, 5, 0.1, "same"),
    "tune: coffee, learned 7 x 7, 0.05, circular": ("coffee", 192, "learned", 32, 7, 0.05, "circular"),
    "tune: camera, learned 12 x 12, 0.1, same": ("camera", 192, "learned", 32, 12, 0.1, "same"),
    "tune: coins, random 6 x 6, 0.02, circular": ("coins", 256, "random", 32, 6, 0.02, "circular"),
    "tune: coffee, cosine 9 x 9, 0.05, same": ("coffee", 192, "cosine", 24, 9, 0.05, "same"),
    "camera, cosine 8 x 8, 0.02, same": ("camera", 256, "cosine", 32, 8, 0.02, "same"),
    "coins, learned 9 x 9, 0.05, circular": ("coins", 256, "learned", 32, 9, 0.05, "circular"),
    "coffee, random 6 x 6, 0.1, circular": ("coffee", 192, "random", 32, 6, 0.1, "circular"),
    "camera, random 5 x 5, 0.1, same": ("camera", 256, "random", 16, 5, 0.1, "same"),
    "coins, random 12 x 12, 0.05, same": ("coins", 192, "random", 24, 12, 0.05, "same"),
    "coffee, learned 8 x 8, 0.02, circular": ("coffee", 192, "learned", 32, 8, 0.02, "circular"),
}


def photograph(name, side):
    image = getattr(data, name)().astype(float) / 255
    image = image.reshape(*image.shape[:2], -1)
    square = min(image.shape[:2])
    top, left = ((size - square) // 2 for size in image.shape[:2])
    image = image[top : top + square, left : left + square]
    image = transform.resize(image, (side, side), anti_aliasing=True)
    return (image - gaussian_filter(image, (3, 3, 0))).astype(np.float32)


def atoms(kind, n, size, image):
    """Random, products of cosines (with random colours), or learned on patches of 64 x 64 of the photograph."""
    rng = np.random.default_rng(0)
    channels = image.shape[-1]
    if kind == "random":
        components = rng.standard_normal((n, size, size, channels))
    elif kind == "cosine":
        n_waves = int(np.ceil(np.sqrt(n + 1)))
        waves = np.arange(n_waves)[:, None] * (size - 1) / (n_waves - 1)
        rows = np.cos(np.pi * waves * (np.arange(size) + 0.5) / size)
        products = rows[:, None, :, None] * rows[None, :, None, :]
        components = products.reshape(-1, size, size, 1)[1 : n + 1]
        components = components * (rng.standard_normal((n, 1, 1, channels)) if channels > 1 else 1)
    else:
        corners = rng.integers(0, len(image) - 64, (12, 2))
        X = np.stack([image[y : y + 64, x : x + 64] for y, x in corners])
        coder = ConvSparseCoder(n, kernel_size=size, n_epochs=3, alpha=0.05, random_state=0, image_shape=X.shape[1:])
        components = coder.fit(X.reshape(len(X), -1)).components_
    return (components / np.sqrt((components**2).sum((1, 2, 3), keepdims=True))).astype(np.float32)


class Task:
    """Signal, operator and penalty of a problem, and its least objective."""

    def __init__(self, photo, side, kind, n_atoms, size, share, padding):
        image = photograph(photo, side)
        self.X, self.padding = image[None], padding
        self.operator = ConvolutionalOperator(atoms(kind, n_atoms, size, image), image.shape, padding=padding)
        self.alpha = share * float(convolutional_alpha_max(self.X, self.operator)[0])
        components = self.operator.components.astype(float)
        self.exact = ConvolutionalOperator(components, image.shape, padding=padding)
        long = convolutional_basis_pursuit(self.X.astype(float), self.exact, self.alpha, tol=2e-6, max_iter=10_000)
        self.least, self.uncertainty = float(long.objective[0]), float(long.gap[0] / long.objective[0])

    def distance(self, codes):
        codes = np.asarray(codes, dtype=float)
        residual = self.X - self.exact.synthesize(codes)
        return (0.5 * (residual**2).sum() + self.alpha * np.abs(codes).sum()) / self.least - 1


def our_times(task, n_jobs, clock, rounds):
    """Seconds of the largest tolerance that reaches each target and of the default one; gap against distance."""

    def solve(**settings):
        return convolutional_basis_pursuit(task.X, task.operator, task.alpha, n_jobs=n_jobs, **settings)

    def seconds(**settings):
        samples = []
        for _ in range(rounds):
            start = clock()
            solve(**settings)
            samples.append(clock() - start)
        return min(samples)

    solve(tol=0.3)
    times, trace = {}, []
    for tol in TOLERANCES:
        result = solve(tol=tol)
        distance = float(task.distance(result.codes))
        trace.append({"tol": tol, "gap": float(result.gap[0]) / task.least, "distance": distance})
        trace[-1]["seconds"] = seconds(tol=tol)
        for target in TARGETS:
            if distance <= target:
                times.setdefault(f"{target:g}", trace[-1]["seconds"])
    times["certified"] = seconds()
    return times, trace


def sporco_solver(task, method, rho, callback):
    options = {"Verbose": False, "RelStopTol": 1e-12, "MaxMainIter": MOST_ITERATIONS, "RelaxParam": 1.8}
    options["AutoRho"] = {"Enabled": True, "Period": 1} if rho == "auto" else {"Enabled": False}
    if rho != "auto":
        options["rho"] = rho * task.alpha
    options["Callback"] = callback
    components = np.moveaxis(task.operator.components, 0, -1)
    image, n_atoms = task.X[0], components.shape[-1]
    if image.shape[-1] == 1:
        components, image = components[:, :, 0], image[..., 0]
    if method == "circular":
        return cbpdn.ConvBPDN(components, image, task.alpha, cbpdn.ConvBPDN.Options(options), dimK=0)
    (height, width), (tall, wide) = image.shape[:2], components.shape[:2]
    top, left = task.operator.geometry.offset
    padded = np.zeros((height + tall - 1, width + wide - 1, *image.shape[2:]), np.float32)
    mask = np.zeros_like(padded[..., :1] if image.ndim == 3 else padded)
    inside = slice(top, top + height), slice(left, left + width)
    padded[inside], mask[inside] = image, 1
    weights = np.full((*padded.shape[:2], 1, 1, n_atoms), OUTSIDE, np.float32)
    weights[:height, :width] = 1
    if method == "mask decoupling":
        options["L1Weight"] = weights
        options = cbpdn.ConvBPDNMaskDcpl.Options(options)
        return cbpdn.ConvBPDNMaskDcpl(components, padded, task.alpha, mask, options, dimK=0)
    channels = image.shape[2] if image.ndim == 3 else 1  # one free impulse for each channel
    options["L1Weight"] = np.concatenate([weights, np.zeros_like(weights[..., :channels])], axis=-1)
    options = cbpdn.ConvBPDN.Options(options)
    return cbpdn.AddMaskSim(cbpdn.ConvBPDN, components, padded, mask, task.alpha, opt=options, dimK=0)


def sporco_times(task, method, rho, clock, most_seconds=np.inf):
    """Seconds to each target, None beyond `most_seconds`; objectives are computed while the clock stands still."""
    watch, times = {"run": 0.0, "since": 0.0}, {}
    height, width = task.X.shape[1:3]

    def callback(_):
        watch["run"] += clock() - watch["since"]
        codes = np.asarray(solver.getcoef())[:height, :width]
        distance = task.distance(codes.reshape(1, height, width, -1))
        for target in TARGETS:
            if distance <= target:
                times.setdefault(f"{target:g}", watch["run"])
        watch["since"] = clock()
        return len(times) == len(TARGETS) or watch["run"] > most_seconds

    solver = sporco_solver(task, method, rho, callback)
    watch["since"] = clock()
    solver.solve()
    return {f"{target:g}": times.get(f"{target:g}") for target in TARGETS}


def best_settings(task):
    """CPU seconds on one thread of the fastest setting for each target, and that setting."""
    method = "circular" if task.padding == "circular" else "AddMaskSim"
    settings = [(method, rho) for rho in (25, 50, 100, "auto")]
    if method != "circular":
        settings += [("mask decoupling", rho) for rho in (25, 50)]
    best = {}
    for method, rho in settings:
        most = max(row["cpu"] for row in best.values()) if len(best) == len(TARGETS) else np.inf
        for key, seconds in sporco_times(task, method, rho, time.process_time, most).items():
            if seconds is not None and seconds < best.get(key, {"cpu": np.inf})["cpu"]:
                best[key] = {"cpu": seconds, "method": method, "rho": rho}
    return best


def _burn(stop):
    while not stop.is_set():
        sum(range(100_000))


def wall_times(task, settings, rounds):
    """Wall clock on two threads, of skrobust and of SPORCO's best settings."""
    sporco.fft.pyfftw_threads = 2
    times = {"skrobust": our_times(task, 2, time.perf_counter, rounds)[0], "SPORCO": {}}
    for key, setting in settings.items():
        run = sporco_times(task, setting["method"], setting["rho"], time.perf_counter)
        times["SPORCO"][key] = run[key]
    return times


def race(problem, rounds):
    task = Task(*problem)
    sporco.fft.pyfftw_threads = 1
    with threadpool_limits(1):
        ours, trace = our_times(task, 1, time.process_time, rounds)
        settings = best_settings(task)
    row = {"alpha": task.alpha, "least_objective": task.least, "relative_gap_of_least": task.uncertainty}
    row["one thread, CPU"] = {"skrobust": ours, "SPORCO": {key: best["cpu"] for key, best in settings.items()}}
    row["settings"] = {key: {"method": best["method"], "rho": best["rho"]} for key, best in settings.items()}
    row["trace"] = trace
    row["two threads"] = wall_times(task, settings, rounds)
    stop = multiprocessing.Event()
    neighbour = multiprocessing.Process(target=_burn, args=(stop,))
    neighbour.start()
    try:
        row["two threads, busy neighbour"] = wall_times(task, settings, rounds)
    finally:
        stop.set()
        neighbour.join()
    return row


KINDS = ("one thread, CPU", "two threads", "two threads, busy neighbour")


def ratios(row, kind):
    """SPORCO's time over skrobust's, at each target."""
    return {key: row[kind]["SPORCO"][key] / row[kind]["skrobust"][key] for key in row[kind]["SPORCO"]}


def summary(problems):
    """Median and least ratio over the problems, and what the certificate costs."""
    content = {}
    for kind in KINDS:
        for target in map("{:g}".format, TARGETS):
            found = [ratios(row, kind)[target] for row in problems.values()]
            content[f"{kind}, {target}"] = {"median": float(np.median(found)), "least": min(found), "n": len(found)}
    return content


def draw_traces(problems, path):
    """Certified gap and true distance against CPU seconds, one small plot per problem."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 4, figsize=(12, 7.5), sharey=True, layout="constrained")
    for ax, (name, row) in zip(axes.ravel(), problems.items(), strict=True):
        # A run to a looser tolerance is the beginning of one to a tighter tolerance, and takes no longer.
        seconds = np.minimum.accumulate([point["seconds"] for point in row["trace"]][::-1])[::-1]
        distances = [max(point["distance"], 1e-8) for point in row["trace"]]
        ax.semilogy(seconds, [point["gap"] for point in row["trace"]], "o-", label="certified gap")
        ax.semilogy(seconds, distances, "s--", label="distance from the minimum")
        ax.set_xlim(0)
        ax.set_title(name.removeprefix("tune: "), fontsize=9)
        ax.grid(alpha=0.3)
    for ax in axes[:, 0]:
        ax.set_ylabel("relative to the objective")
    for ax in axes[-1]:
        ax.set_xlabel("CPU seconds, one thread")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=100)


def print_table(content):
    print("| problem | " + " | ".join(f"{kind}, {t:g}" for kind in KINDS for t in TARGETS) + " |")
    print("| --- |" + " --- |" * len(KINDS) * len(TARGETS))
    for name, row in content["problems"].items():
        cells = [f"{ratio:.0f}" for kind in KINDS for ratio in ratios(row, kind).values()]
        print(f"| {name} | " + " | ".join(cells) + " |")
    for pick in ("median", "least"):
        print(f"| {pick} | " + " | ".join(f"{cell[pick]:.0f}" for cell in content["summary"].values()) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="parts of names")
    parser.add_argument("--rounds", type=int, default=5, help="runs of skrobust, of which the fastest counts")
    parser.add_argument("--trace", action="store_true", help="measure and draw only the gaps and distances")
    parser.add_argument("--table", action="store_true", help="print the table of the result file")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    path = RESULTS / "bench_csc_problems.json"
    content = json.loads(path.read_text(encoding="utf8")) if path.exists() else {"problems": {}}
    names = [name for name in PROBLEMS if not args.only or any(part in name for part in args.only)]
    if args.trace:
        with threadpool_limits(1):
            for name in names:
                _, content["problems"][name]["trace"] = our_times(Task(*PROBLEMS[name]), 1, time.process_time, 3)
                write_json(path, content)
        draw_traces(content["problems"], RESULTS.parents[1] / "docs" / "images" / "convolutional_gap.png")
    for name in names if not (args.table or args.trace) else ():
        row = race(PROBLEMS[name], args.rounds)
        content["problems"][name] = row
        problems = {key: content["problems"][key] for key in PROBLEMS if key in content["problems"]}
        content = {"what": __doc__.splitlines()[0], "machine": machine("numpy", "numba", "sporco"), "seed": 0}
        content |= {"summary": summary(problems), "problems": problems}
        write_json(path, content)
        print(name, {kind: ratios(row, kind) for kind in KINDS}, flush=True)
    print_table(content)


if __name__ == "__main__":
    main()
