"""Dictionary learning on 100,000 natural patches: objective over time, against SPAMS, dictlearn and scikit-learn.

    python benchmarks/bench_dictionaries.py l0 skrobust     # one contender a call, half a minute to three
    python benchmarks/bench_dictionaries.py l0 spams
    python benchmarks/bench_dictionaries.py l0 table

Each call merges its curves into benchmarks/results/bench_dictionaries.json. Learners are deterministic: where one is
run again, the smallest time of each of its points is kept.

8 x 8 patches of scikit-image's bundled grey images, means removed, 256 atoms, the same first atoms for all. Problem
"l0" allows 5 atoms a patch, "l1" adds alpha times the l1 norm. Time is that of learning alone, on the same number of
threads: by the clock, or with ``--clock cpu`` (for one thread: OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1) the processor's,
which other programs disturb little. What is compared is the objective of the atoms so far on all patches, coded by one
coder, ours: OMP for "l0", basis pursuit for "l1".
"""

import argparse
import itertools
import json
import os
import time
import warnings

import numpy as np
from _race import RESULTS, machine, write_json
from skimage import data, util
from sklearn.feature_extraction.image import extract_patches_2d

from skrobust import pursuits
from skrobust.dictionaries import KSVD, MOD, OnlineDictionaryLearning

IMAGES = ("camera", "coins", "moon", "page", "text", "clock", "brick", "grass", "gravel")
N_PATCHES, N_ATOMS, K, ALPHA = 100_000, 256, 5, 0.1
CHUNK = 4096
OURS = "skrobust OnlineDictionaryLearning"
PATH = RESULTS / "bench_dictionaries.json"
THREADS = int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count()))
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def patches():
    random_state = np.random.RandomState(0)
    rows = []
    for name in IMAGES:
        image = util.img_as_float(getattr(data, name)())
        n_patches = (image.shape[0] - 7) * (image.shape[1] - 7)
        chosen = extract_patches_2d(image, (8, 8), max_patches=min(n_patches, 12_500), random_state=random_state)
        rows.append(chosen.reshape(len(chosen), -1))
    X = np.concatenate(rows)
    X -= X.mean(axis=1, keepdims=True)
    X = X[random_state.permutation(len(X))[:N_PATCHES]].astype(np.float32)
    first = X[random_state.permutation(len(X))[:N_ATOMS]]
    return X, first / np.linalg.norm(first, axis=1, keepdims=True)


def objective(problem, X, components):
    """Of atoms, by our coder."""
    components = np.ascontiguousarray(components, dtype=X.dtype)
    components = components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-12)
    if problem == "l0":
        codes = pursuits.orthogonal_mp(X, components, n_nonzero_coefs=K)
        penalty = 0.0
    else:
        codes = pursuits.basis_pursuit(X, components, alpha=ALPHA)
        penalty = ALPHA * np.abs(codes.data).sum(dtype=np.float64) / len(X)
    residual = np.asarray(X - codes @ components, dtype=np.float64)
    return 0.5 * np.square(residual).sum() / len(X) + penalty


def chunks(X):
    """Chunks of the patches, pass after pass, each in a new order."""
    for seed in itertools.count():
        order = np.random.RandomState(seed).permutation(len(X))
        for start in range(0, len(X), CHUNK):
            yield X[order[start : start + CHUNK]]


def curve(step, evaluate, *, clock, budget, limit):
    """Points (seconds of learning, objective): `step` learns on and returns the atoms.

    Each has at least a tenth more steps than the one before, because evaluation takes longer than learning.
    """
    points, spent, begun, last = [], 0.0, clock(), 0
    for n_steps in itertools.count(1):
        start = clock()
        components = step()
        spent += clock() - start
        if n_steps >= 1.1 * last:
            points.append((spent, evaluate(components)))
            last = n_steps
        if spent > budget or clock() - begun > limit:
            return points


def ours(problem, X, first):
    coding = {"coding": "omp", "n_nonzero_coefs": K} if problem == "l0" else {"coding": "l1", "alpha": ALPHA}

    def online(**params):
        learner, stream = OnlineDictionaryLearning(init=first, **{**coding, **params}), chunks(X)
        return lambda: learner.partial_fit(next(stream)).components_

    def alternating(Learner):
        learner = Learner(init=first, max_iter=1, tol=0, warm_start=True, **coding)
        return lambda: learner.fit(X).components_

    online()()  # compile
    yield OURS, online
    if problem == "l0":  # the rule of SPAMS
        yield f"{OURS}, coding ols", lambda: online(coding="ols")
    for Learner in (KSVD, MOD):
        Learner(init=first, max_iter=1, **coding).fit(X[:2000])
        yield f"skrobust {Learner.__name__}", lambda Learner=Learner: alternating(Learner)


def of_dictlearn(problem, X, first):
    import dictlearn

    X = X.astype(np.float64)  # it knows no other
    params = {"n_components": N_ATOMS, "n_nonzero_coefs": K, "random_state": 0}

    def alternating(algorithm):
        state = {"dict_init": first.astype(np.float64)}

        def step():
            learner = dictlearn.DictionaryLearning(fit_algorithm=algorithm, max_iter=1, **params, **state)
            state["dict_init"] = learner.fit(X).components_
            return state["dict_init"]

        return step

    def online(batch_size, forgetting):
        learner = dictlearn.MiniBatchDictionaryLearning(
            dict_init=first.astype(np.float64), batch_size=batch_size, forgetting_factor=forgetting, **params
        )
        stream = chunks(X)

        def step():
            chunk = next(stream)
            for start in range(0, len(chunk), batch_size):
                learner.partial_fit(chunk[start : start + batch_size])
            return learner.components_

        return step

    dictlearn.DictionaryLearning(max_iter=1, dict_init=first.astype(np.float64), **params).fit(X[:500])
    for batch_size, forgetting in ((256, 0.98), (1024, 0.95)):
        name = f"dictlearn MiniBatchDictionaryLearning, batches of {batch_size}, forgetting factor {forgetting}"
        yield name, lambda b=batch_size, f=forgetting: online(b, f)
    for algorithm in ("aksvd", "mod"):
        yield f"dictlearn {algorithm}", lambda algorithm=algorithm: alternating(algorithm)


def of_sklearn(problem, X, first):
    from sklearn.decomposition import MiniBatchDictionaryLearning

    def online(algorithm, batch_size):
        learner = MiniBatchDictionaryLearning(
            N_ATOMS, alpha=ALPHA, fit_algorithm=algorithm, batch_size=batch_size, dict_init=first, random_state=0
        )
        stream = chunks(X)

        def step():
            chunk = next(stream)[:2048]  # a whole chunk takes a minute
            for start in range(0, len(chunk), batch_size):
                learner.partial_fit(chunk[start : start + batch_size])
            return learner.components_

        return step

    for algorithm, batch_size in (("lars", 256), ("cd", 256)):
        name = f"scikit-learn MiniBatchDictionaryLearning, {algorithm}, batches of {batch_size}"
        yield name, lambda a=algorithm, b=batch_size: online(a, b)


def spams_curves(problem, X, first, evaluate, *, clock, budget, limit):
    """SPAMS from the start for each number of its iterations."""
    import spams

    X, first = np.asfortranarray(X.T), np.asfortranarray(first.T)
    mode = {"mode": 3, "lambda1": K} if problem == "l0" else {"mode": 2, "lambda1": ALPHA}
    settings = [(128, 0, 1.0), (256, 0, 1.0), (512, 0, 1.0), (512, 2, 0.98), (512, 2, 0.95)]
    for batch_size, how, rho in settings:
        points, n_iter, begun = [], max(1, 6400 // batch_size), clock()
        while not points or (points[-1][0] < budget and clock() - begun < limit):
            start = clock()
            components = spams.trainDL(
                X, D=first, batchsize=batch_size, iter=n_iter, numThreads=THREADS, verbose=False,
                modeParam=how, rho=rho, **mode,
            )  # fmt: skip
            points.append((clock() - start, evaluate(components.T)))
            n_iter *= 2
        yield f"SPAMS trainDL, batches of {batch_size}, modeParam {how}, rho {rho}", points


def run(problem, contender, clock, budget, limit, only):
    X, first = patches()
    results = json.loads(PATH.read_text()) if PATH.exists() else {}
    results["machine"] = machine("numba", "numpy", "scikit-learn", "spams-bin", "dictlearn")
    results["settings"] = {"patches": N_PATCHES, "atoms": N_ATOMS, "K": K, "alpha": ALPHA}
    curves = results.setdefault(heading(problem, clock), {})

    def evaluate(components):
        return objective(problem, X, components)

    curves["first atoms"] = [(0.0, evaluate(first))]
    bounds = {"clock": CLOCKS[clock], "budget": budget, "limit": limit}
    if contender == "spams":
        curves = spams_curves(problem, X, first, evaluate, **bounds)
    else:
        makers = {"skrobust": ours, "dictlearn": of_dictlearn, "scikit-learn": of_sklearn}[contender]
        chosen = ((name, make) for name, make in makers(problem, X, first) if only in name)
        curves = ((name, curve(make(), evaluate, **bounds)) for name, make in chosen)
    for name, points in curves:
        print(name, *(f"{s:.2f} s: {value:.5f}" for s, value in points), sep="\n  ", flush=True)
        curves[name] = fastest(curves.get(name, []), points)
        write_json(PATH, results)


def fastest(earlier, points):
    """Of two runs of a learner, with the same objectives: the longer one, with the smaller time at each point."""
    if not all(abs(a[1] - b[1]) <= 1e-6 * b[1] for a, b in zip(earlier, points, strict=False)):
        return points
    return [
        (min(one[0] for one in pair if one), next(one[1] for one in pair if one))
        for pair in itertools.zip_longest(earlier, points)
    ]


def heading(problem, clock):
    return f"{problem}, {THREADS} thread{'s' * (THREADS > 1)}, {clock} seconds"


def reached(points, value):
    """Seconds until the objective is `value`, by linear interpolation; None if it never is."""
    last = (0.0, np.inf)
    for seconds, objective in points:
        if objective <= value:
            if not np.isfinite(last[1]):
                return seconds
            return last[0] + (seconds - last[0]) * (last[1] - value) / max(last[1] - objective, 1e-15)
        last = seconds, objective
    return None


def table(problem, clock):
    curves = json.loads(PATH.read_text())[heading(problem, clock)]
    start = curves.pop("first atoms")[0]
    ours = {name: [start, *points] for name, points in curves.items() if name.startswith(OURS)}
    head = ["learner", "seconds", "objective"]
    for name in ours:
        short = name.removeprefix("skrobust ")
        head += [f"{short} at that time", "was there after", "ratio"]
    print("| " + " | ".join(head) + " |", "|" + " --- |" * len(head), sep="\n")
    for name, points in curves.items():
        for seconds, value in points:
            cells = [name, f"{seconds:.2f}", f"{value:.5f}"]
            for own in ours.values():
                then, there = np.interp(seconds, *zip(*own, strict=True)), reached(own, value)
                cells += [f"{then:.5f}", f"{there:.3f}", f"{seconds / there:.1f}"] if there else [f"{then:.5f}", "", ""]
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", choices=["l0", "l1"])
    parser.add_argument("contender", choices=["skrobust", "spams", "dictlearn", "scikit-learn", "table"])
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds of learning for each curve")
    parser.add_argument("--limit", type=float, default=40.0, help="seconds for each curve, with its evaluation")
    parser.add_argument("--only", default="", help="learners of a package whose names contain this; all of SPAMS")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.contender == "table":
        table(arguments.problem, arguments.clock)
    else:
        run(arguments.problem, arguments.contender, arguments.clock, arguments.budget, arguments.limit, arguments.only)
