"""Convolutional sparse coding and dictionary learning, against SPORCO and torch, at equal objective.

    python benchmarks/bench_csc.py                 # all parts, about 15 minutes; benchmarks/results/bench_csc.json
    python benchmarks/bench_csc.py --part image    # one part; the others are kept from the file

"image": one 256 x 256 photograph, 32 random filters of 8 x 8, circular, 0.05 alpha_max (`bench_csc_problems.py` has
twelve problems). "batch": 256 colour images of 32 x 32, 64 filters of 5 x 5 x 3, zero padding, against FISTA on torch,
which gets the fastest of several chunk sizes and at most 120 seconds. "signals": 100 signals of 1000 samples, 20 atoms
of 64, against alphacsc. "layers": one synthesis and one analysis of the shapes of convolutional networks against torch.
All float32 (alphacsc: double). Times are those until the same relative distance from the smallest objective, which a
long run in double precision certifies. SPORCO's objective is computed after every iteration and not timed; skrobust,
which certifies its own gap, is run to the largest tolerance that reaches the target.

"learning": 10 crops of 96 x 96, 32 atoms of 8 x 8, circular, against SPORCO's batch and online learners, all on one
thread after a warm-up (SPORCO plans its first transforms by measuring, which is not timed). Dictionaries are stored
after 0.25, 0.5, 1, 2, ... seconds; at the end each is evaluated by the objective of codes computed anew for it, to a
relative gap of 1e-3. "large": reflected copies of the photograph, 1024 x 1024 and 2048 x 2048, 16 random filters of
8 x 8, 0.05 alpha_max, at the default tolerance: wall clock on two threads and on one, and the peak of resident memory
of a process that does nothing else. "memory": 64 atoms of 5 x 5 x 3 learned on 10 000 CIFAR-10 images, one pass in
batches and one over all, each in a process of its own whose peak of resident memory is taken.
"""

import argparse
import json
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import sporco.fft
import torch
from _race import RESULTS, machine, write_json
from scipy.ndimage import gaussian_filter
from skimage import data, transform
from sporco import signal
from sporco.admm import cbpdn as admm
from sporco.dictlrn import cbpdndl, onlinecdl
from sporco.pgm import cbpdn as pgm
from threadpoolctl import threadpool_limits

from skrobust.dictionaries import ConvolutionalLearner
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_alpha_max, convolutional_basis_pursuit

TARGETS = (1e-3, 1e-4)
THREADS, SECONDS = 2, 16
clock = time.perf_counter
"""Threads, most seconds of learning (skrobust: half of them), what seconds are counted by; `main` changes them."""

TOLERANCES = (0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.015, 0.01, 0.007, 0.005, 0.002, 0.001, 0.0005, 0.0001)


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


def our_times(X, operator, alpha, least, n_jobs, rounds, positive=False):
    """Seconds of the largest tolerance that reaches each target, least of the rounds."""
    found = {}
    for tol in TOLERANCES:
        settings = {"positive": positive, "tol": tol, "n_jobs": n_jobs}
        codes = quietly(convolutional_basis_pursuit, X, operator, alpha, **settings).codes
        distance = objective(X, operator, codes, alpha) / least - 1
        reached = [target for target in TARGETS if target not in found and distance <= target]
        if reached:
            seconds = []
            for _ in range(rounds):
                start = clock()
                quietly(convolutional_basis_pursuit, X, operator, alpha, **settings)
                seconds.append(clock() - start)
            for target in reached:
                found[target] = {"seconds": min(seconds), "tol": tol, "distance": distance}
        if len(found) == len(TARGETS):
            break
    return {f"{target:g}": found.get(target) for target in TARGETS}


def sporco_times(module, components, image, alpha, operator, least, options, most):
    """Seconds to each target; objectives are computed while the clock stands still."""
    watch = {"run": 0.0, "since": 0.0}
    reached = {}

    def callback(solver):
        watch["run"] += clock() - watch["since"]
        codes = np.asarray(solver.getcoef()).reshape(1, *image.shape, -1)
        distance = objective(image[None, ..., None], operator, codes, alpha) / least - 1
        for target in TARGETS:
            if distance <= target and target not in reached:
                reached[target] = {"seconds": watch["run"], "iterations": solver.k + 1}
        watch["since"] = clock()
        return len(reached) == len(TARGETS)

    settings = {"Verbose": False, "RelStopTol": 1e-12, "MaxMainIter": most, "Callback": callback, **options}
    solver = module.ConvBPDN(components, image, alpha, module.ConvBPDN.Options(settings), dimK=0)
    watch["since"] = clock()
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
    times = {
        f"skrobust, {n} thread{'s' * (n > 1)}": our_times(X, operator, alpha, least, n, rounds)
        for n in range(THREADS, 0, -1)
    }
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
    """Seconds to each target, and of the first ten iterations, of FISTA with restart in chunks that stay cached."""
    weights = torch.from_numpy(np.moveaxis(operator.components, -1, 1).copy())
    parts = [torch.from_numpy(np.moveaxis(X[i : i + chunk], -1, 1).copy()) for i in range(0, len(X), chunk)]
    conv, transposed = torch.nn.functional.conv2d, torch.nn.functional.conv_transpose2d
    step, margin = 1 / operator.lipschitz, operator.components.shape[1] // 2
    states = [[torch.zeros(len(x), len(weights), *x.shape[2:])] * 2 + [1.0] for x in parts]
    reached, run, iterations, first = {}, 0.0, 0, None
    while (first is None or run < most_seconds) and len(reached) < len(TARGETS):
        start = clock()
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
        run += clock() - start
        iterations += 10
        if first is None:
            first = run
        if iterations % 20 and iterations > 10:  # the objective takes longer than the iterations
            continue
        codes = np.concatenate([np.moveaxis(state[0].numpy(), 1, -1) for state in states])
        distance = objective(X, operator, codes, alpha) / least - 1
        for target in TARGETS:
            if distance <= target and target not in reached:
                reached[target] = {"seconds": run, "iterations": iterations}
    return {f"{target:g}": reached.get(target) for target in TARGETS}, first


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
            f"skrobust, {n} thread{'s' * (n > 1)}": our_times(X, operator, alpha, least, n, rounds)
            for n in range(THREADS, 0, -1)
        }
        trials = {chunk: torch_fista_times(X, operator, alpha, least, chunk, 0.0)[1] for chunk in (4, 8, 16, 32)}
        chunk = min(trials, key=trials.get)
        times[f"torch FISTA with restart, chunks of {chunk}, {THREADS} thread{'s' * (THREADS > 1)}"] = (
            torch_fista_times(X, operator, alpha, least, chunk, 120)[0]
        )
        results[f"{share:g} alpha_max"] = {
            "alpha": alpha,
            "least_objective": least,
            "relative_gap_of_least": gap,
            "times": times,
        }
    return results


MARKS = tuple(0.25 * 2**i for i in range(8))
"""Seconds of learning after which dictionaries are set aside."""


class Marks:
    """Dictionaries at the marks; the clock stands still while they are set aside."""

    def __init__(self, most_seconds):
        self.run, self.kept, self.waiting, self.most_seconds = 0.0, [], list(MARKS), most_seconds
        self.since = clock()

    def passed(self, components):
        """Note a state of learning; return whether time is up."""
        self.run += clock() - self.since
        if self.run >= self.waiting[0]:
            self.kept.append((self.run, np.array(components(), dtype=np.float32)))
            self.waiting = [mark for mark in self.waiting if mark > self.run]
        self.since = clock()
        return self.run >= self.most_seconds or not self.waiting


def from_sporco(dictionary):
    return np.moveaxis(np.asarray(dictionary).reshape(8, 8, 32), -1, 0)[..., None]


def learn(X, start, alpha, batch_size, most_seconds, tol):
    def learner():
        return ConvolutionalLearner(start, alpha, padding="circular", tol=tol, random_state=0, n_jobs=1)

    warm = learner()
    (warm.epoch if batch_size is None else warm.update)(X[:2])  # kernels are compiled, as SPORCO's are
    own, marks = learner(), Marks(most_seconds)
    order = np.random.default_rng(1)
    while True:
        own.epoch(X) if batch_size is None else own.update(X[order.permutation(len(X))[:batch_size]])
        if marks.passed(lambda: own.components):
            return marks.kept


def learn_by_sporco(X, start, alpha, options, dmethod, most_seconds):
    filters, images = np.moveaxis(start[..., 0], 0, -1), np.moveaxis(X[..., 0], 0, -1)

    def solver(n_iter, callback=None):
        settings = {"Verbose": False, "MaxMainIter": n_iter, "Callback": callback, **options}
        settings = cbpdndl.ConvBPDNDictLearn.Options(settings, dmethod=dmethod)
        return cbpdndl.ConvBPDNDictLearn(filters, images, alpha, settings, dimK=1, dmethod=dmethod)

    solver(2).solve()
    own = solver(100_000, lambda state: marks.passed(lambda: from_sporco(state.getdict())))
    marks = Marks(most_seconds)
    own.solve()
    return marks.kept


def learn_by_sporco_online(X, start, alpha, options, most_seconds):
    options = onlinecdl.OnlineConvBPDNDictLearn.Options({"Verbose": False, **options})
    warm, own = (onlinecdl.OnlineConvBPDNDictLearn(np.moveaxis(start[..., 0], 0, -1), alpha, options) for _ in range(2))
    warm.solve(X[0, ..., 0], dimK=0)
    order, marks = np.random.default_rng(1), Marks(most_seconds)
    while True:
        own.solve(X[order.integers(len(X)), ..., 0], dimK=0)
        if marks.passed(lambda: from_sporco(own.getdict())):
            return marks.kept


def race_learning(rounds):
    """Objective that the dictionaries learned so far allow on the training images, against time."""
    rng = np.random.default_rng(0)
    photograph = np.asarray(signal.tikhonov_filter(data.camera().astype(np.float32) / 255, 5, 16)[1], dtype=np.float32)
    corners = rng.integers(512 - 96, size=(10, 2))
    X = np.stack([photograph[y : y + 96, x : x + 96] for y, x in corners])[..., None]
    start = rng.standard_normal((32, 8, 8, 1)).astype(np.float32)
    start /= np.sqrt((start**2).sum((1, 2, 3), keepdims=True))
    alpha = 0.1
    sporco.fft.pyfftw_threads = 1

    def worth(components):
        norms = np.sqrt((components.astype(float) ** 2).sum((1, 2, 3), keepdims=True))
        unit = (components / np.maximum(norms, 1e-12)).astype(np.float32)
        operator = ConvolutionalOperator(unit, (96, 96, 1), padding="circular")
        found = quietly(convolutional_basis_pursuit, X, operator, alpha, tol=1e-3)
        return float(found.objective.mean())

    relaxed = {"rho": 10 * alpha, "RelaxParam": 1.8}
    steps = {"rho": 1.0, "RelaxParam": 1.8, "RelStopTol": 1e-3, "AutoRho": {"Enabled": True}}
    kept = {
        "skrobust, batch": learn(X, start, alpha, None, SECONDS / 2, 0.01),
        "skrobust, online, one image a step": learn(X, start, alpha, 1, SECONDS / 2, 0.05),
        "SPORCO batch, L = 50 (the fastest of three)": learn_by_sporco(
            X, start, alpha, {"CBPDN": relaxed, "CCMOD": {"L": 50.0}}, "pgm", SECONDS
        ),
        "SPORCO batch, consensus, rho = 50 alpha and 2": learn_by_sporco(
            X, start, alpha, {"CBPDN": {**relaxed, "rho": 50 * alpha}, "CCMOD": {"rho": 2.0}}, "cns", SECONDS
        ),
        **{
            f"SPORCO online, {n} iterations a code": learn_by_sporco_online(
                X, start, alpha, {"CBPDN": {**steps, "MaxMainIter": n}}, SECONDS
            )
            for n in (30, 100)
        },
    }
    curves = {
        name: [{"seconds": seconds, "objective": worth(components)} for seconds, components in states]
        for name, states in kept.items()
    }

    def first_at(name, goal):
        return next((point["seconds"] for point in curves[name] if point["objective"] <= goal), None)

    ours = [name for name in curves if name.startswith("skrobust")]
    rivals = [name for name in curves if name not in ours]
    best = {name: min(curves[name], key=lambda point: point["objective"]) for name in rivals}
    arrival = {
        name: {"theirs": best[name], **{own: first_at(own, best[name]["objective"]) for own in ours}} for name in best
    }
    return {"alpha": alpha, "objective_at_start": worth(start), "seconds_to_rivals_best": arrival, "curves": curves}


def alphacsc_times(X, components, alpha, least, settings, n_jobs):
    """Seconds of the loosest setting that reaches each target."""
    from alphacsc.update_z_multi import update_z_multi

    atoms, signals = np.moveaxis(components, -1, 1).astype(float), np.moveaxis(X, -1, 1).astype(float)
    operator = ConvolutionalOperator(components, X.shape[1:], padding="valid")
    found = {}
    for setting in settings:
        start = clock()
        codes = quietly(update_z_multi, signals, atoms, alpha, solver="lgcd", solver_kwargs=setting, n_jobs=n_jobs)[0]
        seconds = clock() - start
        distance = objective(X, operator, np.moveaxis(codes, 1, -1), alpha) / least - 1
        for target in TARGETS:
            if distance <= target and target not in found:
                found[target] = {"seconds": seconds, "setting": setting, "distance": distance}
        if len(found) == len(TARGETS):
            break
    return {f"{target:g}": found.get(target) for target in TARGETS}


def race_signals(rounds):
    rng = np.random.default_rng(0)
    components = np.cumsum(rng.standard_normal((20, 64, 1)), axis=1) * np.hanning(64)[:, None]
    components = (components / np.sqrt((components**2).sum((1, 2), keepdims=True))).astype(np.float32)
    operator = ConvolutionalOperator(components, (1000, 1), padding="valid")
    codes = rng.exponential(size=(100, *operator.code_shape)) * (rng.random((100, *operator.code_shape)) < 0.002)
    X = (operator.synthesize(codes) + 0.1 * rng.standard_normal((100, 1000, 1))).astype(np.float32)
    alpha = 0.1 * float(np.median(convolutional_alpha_max(X, operator, positive=True)))
    exact = ConvolutionalOperator(components.astype(float), operator.signal_shape, padding="valid")
    long = quietly(
        convolutional_basis_pursuit,
        X.astype(float),
        exact,
        alpha,
        positive=True,
        tol=1e-5,
        max_iter=100_000,
    )
    least = float(long.objective.sum())
    settings = [{"tol": tol, "max_iter": 1_000_000} for tol in (0.05, 0.03, 0.02, 0.01, 0.005, 0.003, 0.002, 0.001)]
    quietly(alphacsc_times, X[:2], components, alpha, -1.0, settings[:1], 2)
    times = {
        f"skrobust, {n} thread{'s' * (n > 1)}": our_times(X, operator, alpha, least, n, rounds, True)
        for n in range(THREADS, 0, -1)
    }
    for n in range(THREADS, 0, -1):
        name = f"alphacsc, locally greedy descent, {n} process{'es' * (n > 1)}"
        times[name] = alphacsc_times(X, components, alpha, least, settings, n)
    gap = float(long.gap.sum() / least)
    return {"alpha": alpha, "least_objective": least, "relative_gap_of_least": gap, "times": times}


LAYERS = {
    "28x28x1, 64 atoms 6x6, stride 2": ((28, 28, 1), (64, 6, 6, 1), 2),
    "12x12x64, 128 atoms 6x6, stride 2": ((12, 12, 64), (128, 6, 6, 64), 2),
    "4x4x128, 512 atoms 4x4": ((4, 4, 128), (512, 4, 4, 128), 1),
    "32x32x3, 64 atoms 5x5": ((32, 32, 3), (64, 5, 5, 3), 1),
    "16x16x64, 64 atoms 3x3": ((16, 16, 64), (64, 3, 3, 64), 1),
}


def layer_contenders(shape, atoms, stride):
    """One analysis and one synthesis of 64 images, on one thread, by each contender."""
    rng = np.random.default_rng(0)
    components = rng.standard_normal(atoms).astype(np.float32)
    operator = ConvolutionalOperator(components, shape, padding="valid", stride=stride)
    X = rng.standard_normal((64, *shape)).astype(np.float32)
    dense = rng.standard_normal((64, *operator.code_shape)).astype(np.float32)
    sparse = dense * (rng.random(dense.shape) < 0.1).astype(np.float32)
    contenders = {
        "analysis, skrobust": lambda: operator.analyze(X, n_jobs=1),
        "synthesis, skrobust": lambda: operator.synthesize(dense, n_jobs=1),
        "synthesis, a tenth not zero, skrobust": lambda: operator.synthesize(sparse, n_jobs=1),
    }
    conv, transposed = torch.nn.functional.conv2d, torch.nn.functional.conv_transpose2d
    tensors = [torch.from_numpy(values).movedim(-1, 1) for values in (components, X, dense)]
    for order, layout in (("first", torch.contiguous_format), ("last", torch.channels_last)):
        w, x, z = (values.contiguous(memory_format=layout) for values in tensors)
        contenders[f"analysis, torch, channels {order}"] = lambda w=w, x=x: conv(x, w, stride=stride)
        contenders[f"synthesis, torch, channels {order}"] = lambda w=w, z=z: transposed(z, w, stride=stride)
    return contenders


def race_layers(rounds):
    """Milliseconds, the least of the rounds."""
    torch.set_num_threads(1)
    results = {}
    with torch.no_grad():
        for name, problem in LAYERS.items():
            contenders = layer_contenders(*problem)
            least = dict.fromkeys(contenders, np.inf)
            for _ in range(4 * rounds):
                for contender, function in contenders.items():
                    start = clock()
                    function()
                    least[contender] = min(least[contender], 1000 * (clock() - start))
            results[name] = least
    torch.set_num_threads(THREADS)
    return results


LEARN_ON_CIFAR = """
    import json, resource, sys, time
    import numpy as np
    from skrobust.datasets import load_dataset
    from skrobust.dictionaries import ConvolutionalLearner, initial_convolutional_atoms

    X = load_dataset("cifar10", split="train", dtype=np.float32).images[:10_000].copy()
    X -= X.mean(axis=(1, 2), keepdims=True)
    atoms = initial_convolutional_atoms(X, 64, (5, 5), random_state=0)
    learner = ConvolutionalLearner(atoms, 0.2, random_state=0, tol=0.05)
    start = time.process_time()
    learner.epoch(X) if sys.argv[1] == "batch" else learner.pass_online(X, int(sys.argv[1]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": time.process_time() - start, "peak_GiB": peak, "data_GiB": X.nbytes / 2**30,
                      "objective": learner.objective}))
"""


def measure_memory(rounds):
    results = {}
    for name, argument in (("online, 256 images a step", "256"), ("batch, one epoch", "batch")):
        command = [sys.executable, "-c", textwrap.dedent(LEARN_ON_CIFAR), argument]
        results[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return results


PURSUE_LARGE = """
    import json, resource, sys, time
    import numpy as np
    from scipy.ndimage import gaussian_filter
    from skimage import data
    from skrobust.operators import ConvolutionalOperator
    from skrobust.pursuits import convolutional_alpha_max, convolutional_basis_pursuit

    side, n_jobs, rounds = map(int, sys.argv[1:])
    image = data.camera() / 255.0
    image = image - gaussian_filter(image, 3)
    X = np.pad(image, (0, side - 512), mode="symmetric")[None, ..., None].astype(np.float32)
    atoms = np.random.default_rng(0).standard_normal((16, 8, 8, 1)).astype(np.float32)
    atoms /= np.sqrt((atoms**2).sum((1, 2, 3), keepdims=True))
    operator = ConvolutionalOperator(atoms, (side, side, 1))
    alpha = 0.05 * float(convolutional_alpha_max(X, operator)[0])
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = convolutional_basis_pursuit(X, operator, alpha, n_jobs=n_jobs)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": min(seconds), "peak_GiB": peak, "codes_GiB": found.codes.nbytes / 2**30,
                      "gap": float(found.gap[0] / found.objective[0]), "n_iter": int(found.n_iter[0])}))
"""


def race_large(rounds):
    results = {}
    for side in (1024, 2048):
        rows = {}
        for n_jobs in (2, 1):
            command = [sys.executable, "-c", textwrap.dedent(PURSUE_LARGE), str(side), str(n_jobs), str(rounds)]
            rows[f"{n_jobs} thread{'s' * (n_jobs > 1)}"] = json.loads(
                subprocess.run(command, capture_output=True, text=True, check=True).stdout
            )
        rows["speedup"] = rows["1 thread"]["seconds"] / rows["2 threads"]["seconds"]
        results[f"{side} x {side}"] = rows
    return results


PARTS = {
    "image": race_image,
    "batch": race_batch,
    "learning": race_learning,
    "signals": race_signals,
    "layers": race_layers,
    "large": race_large,
    "memory": measure_memory,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default=RESULTS / "bench_csc.json")
    parser.add_argument("--threads", type=int, choices=(1, 2), default=2)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for one thread, on busy machines"
    )
    parser.add_argument("--seconds", type=float, default=16, help="of learning, by each rival")
    args = parser.parse_args()
    global clock, SECONDS, THREADS
    SECONDS, THREADS = args.seconds, args.threads
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    torch.set_num_threads(THREADS)
    sporco.fft.pyfftw_threads = THREADS
    try:
        with open(args.output, encoding="utf8") as file:
            result = json.load(file)
    except FileNotFoundError:
        result = {}
    result["machine"] = machine("numpy", "numba", "sporco", "torch")
    with threadpool_limits(1, user_api="blas"):
        for part in [args.part] if args.part else PARTS:
            result[part] = {"clock": args.clock, **PARTS[part](args.rounds)}
            write_json(args.output, result)
            print(part, json.dumps(result[part], indent=1)[:3000])


if __name__ == "__main__":
    main()
