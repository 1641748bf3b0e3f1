"""Denoising one 512 x 512 image with 8 x 8 patches at stride 1 and 256 atoms, against SPAMS and scikit-learn.

    python benchmarks/bench_denoiser.py            # about 3 minutes; writes benchmarks/results/bench_denoiser.json

Each contender takes a noisy image and returns the denoised one: patches, means removed, orthogonal matching pursuit
with K atoms or down to the noise, rebuilt patches averaged. For SPAMS and scikit-learn the patches are cut and put back
by NumPy. SPAMS selects atoms by orthogonal least squares; the library runs both rules, and the ratio to SPAMS is that
of the same rule. scikit-learn, which takes most of a minute, is timed once on the whole image.
"""

import argparse

import numpy as np
import spams
from _race import RESULTS, _timed, machine, race, summary, write_json
from skimage.data import camera
from sklearn.linear_model import orthogonal_mp_gram
from threadpoolctl import threadpool_limits

from skrobust import PatchDictionaryDenoiser

SIGMA = 25 / 255
SIDE = 8
RULES = {"K = 5": {"n_nonzero_coefs": 5}, "noise, sigma = 25": {"noise_std": SIGMA}}


def patches_of(image):
    """Columns, as SPAMS wants them, and their means."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE))
    columns = np.asfortranarray(windows.reshape(-1, SIDE * SIDE).T)
    means = columns.mean(axis=0)
    columns -= means
    return columns, means


def put_back(columns, means, image, coverage):
    columns += means
    height, width = image.shape[0] - SIDE + 1, image.shape[1] - SIDE + 1
    sums = np.zeros_like(image)
    for number, row in enumerate(columns):
        y, x = divmod(number, SIDE)
        sums[y : y + height, x : x + width] += row.reshape(height, width)
    return sums / coverage


def by_spams(image, atoms, coverage, rule, n_threads):
    columns, means = patches_of(image)
    # eps=0.0, not None: with None float32 codes are empty.
    limits = (
        {"L": rule["n_nonzero_coefs"], "eps": 0.0}
        if "n_nonzero_coefs" in rule
        else {"L": SIDE * SIDE, "eps": float((1.15 * SIGMA * SIDE) ** 2)}
    )
    codes = spams.omp(columns, D=atoms, numThreads=n_threads, **limits)
    return put_back((codes.T @ atoms.T).T, means, image, coverage)


def by_scikit_learn(image, atoms, coverage, rule):
    columns, means = patches_of(image)
    gram, products = atoms.T @ atoms, atoms.T @ columns
    if "n_nonzero_coefs" in rule:
        codes = orthogonal_mp_gram(gram, products, n_nonzero_coefs=rule["n_nonzero_coefs"])
    else:
        norms = np.square(columns).sum(axis=0)
        codes = orthogonal_mp_gram(gram, products, tol=(1.15 * SIGMA * SIDE) ** 2, norms_squared=norms)
    return put_back(atoms @ codes, means, image, coverage)


def run(label, dtype, rounds, with_scikit_learn):
    rule = RULES[label]
    noisy = camera() / 255 + SIGMA * np.random.default_rng(0).standard_normal((512, 512))
    noisy = noisy.astype(dtype)
    denoiser = PatchDictionaryDenoiser(256, patch_size=SIDE, dictionary="dct", **rule)
    fitted = {
        (selection, n): PatchDictionaryDenoiser(**{**denoiser.get_params(), "selection": selection, "n_jobs": n}).fit(
            noisy[None]
        )
        for selection in ("omp", "ols")
        for n in (1, 2)
    }
    atoms = np.asfortranarray(fitted["ols", 1].components_.T)
    covered = np.minimum(SIDE, np.minimum(np.arange(512), np.arange(512)[::-1]) + 1)  # patches over each row
    coverage = np.outer(covered, covered).astype(dtype)
    contenders = {
        f"skrobust, {selection}, {n} thread{'s' * (n > 1)}": lambda model=model: model.transform(noisy[None])[0]
        for (selection, n), model in fitted.items()
    }
    for n in (1, 2):
        contenders[f"SPAMS, {n} thread{'s' * (n > 1)}"] = lambda n=n: by_spams(noisy, atoms, coverage, rule, n)
    agreement = {
        "SPAMS (ols)": float(np.abs(contenders["SPAMS, 1 thread"]() - contenders["skrobust, ols, 1 thread"]()).mean())
    }
    timed = summary(race(contenders, rounds=rounds, least_seconds=0.1, patience=3))
    if with_scikit_learn:
        result = []
        seconds, foreign = _timed(lambda: result.append(by_scikit_learn(noisy, atoms, coverage, rule)), 1)
        timed["scikit-learn"] = {"min": seconds, "median": seconds, "max": seconds, "rounds": 1, "foreign": foreign}
        agreement["scikit-learn (omp)"] = float(np.abs(result[0] - contenders["skrobust, omp, 1 thread"]()).mean())
    medians = {name: s["median"] for name, s in timed.items()}
    ratios = {
        f"to SPAMS, {threads}": medians[f"SPAMS, {threads}"] / medians[f"skrobust, ols, {threads}"]
        for threads in ("1 thread", "2 threads")
    }
    if with_scikit_learn:
        ratios["to scikit-learn, 1 thread"] = medians["scikit-learn"] / medians["skrobust, omp, 1 thread"]
        ratios["to scikit-learn, 2 threads"] = medians["scikit-learn"] / medians["skrobust, omp, 2 threads"]
    return {
        "rule": label,
        "dtype": np.dtype(dtype).name,
        "seconds": timed,
        "ratios": ratios,
        "mean_difference_of_results": agreement,
    }


def print_result(result):
    print(f"{result['rule']}, {result['dtype']}; differences {result['mean_difference_of_results']}")
    for name, s in result["seconds"].items():
        print(f"  {name:26s} {1e3 * s['median']:9.1f} ms")
    print("  " + ", ".join(f"{ratio:.1f} x {name}" for name, ratio in result["ratios"].items()), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default=RESULTS / "bench_denoiser.json")
    args = parser.parse_args()
    # OpenBLAS workers that spin would slow whoever comes next.
    results = []
    with threadpool_limits(1, user_api="blas"):
        for label in RULES:
            for dtype in (np.float64, np.float32):
                results.append(run(label, dtype, args.rounds, dtype is np.float64))
                print_result(results[-1])
    write_json(
        args.output,
        {
            "machine": machine("numpy", "numba", "scikit-learn", "spams-bin"),
            "image": "skimage.data.camera(), 512 x 512, sigma = 25 of 255",
            "patches": "8 x 8, stride 1, 256 DCT atoms",
            "statistic": "median of the rounds",
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
