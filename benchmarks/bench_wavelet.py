"""Wavelet top-K of many small images, against PyWavelets and ptwt in one run.

    python benchmarks/bench_wavelet.py            # about 3 minutes; writes benchmarks/results/bench_wavelet.json

Every contender transforms float32 images, keeps the K largest coefficients of each and inverts, on the same number of
threads (PyWavelets has one only; the one-thread rows compare core for core). ptwt has no periodization: its
separable transform runs in mode "periodic", which keeps a few coefficients more, and its time stands for it.
"""

import argparse
import warnings

import numpy as np
import ptwt
import pywt
import torch
from _race import RESULTS, machine, race, summary, write_json
from threadpoolctl import threadpool_limits

from skrobust.operators import WaveletBasis

WORKLOADS = [  # images, side, wavelet, level, K
    (5000, 28, "coif1", 2, 27),
    (5000, 32, "sym9", 1, 36),
    (20000, 32, "db5", 2, 50),
]
CHUNKS = (100, 250, 1000)


def keep_largest(coefficients, k):
    flat = coefficients.reshape(len(coefficients), -1)
    magnitudes = np.abs(flat)
    threshold = np.partition(magnitudes, -k, axis=1)[:, [-k]]
    return np.where(magnitudes >= threshold, flat, 0).reshape(coefficients.shape)


def pywavelets(X, wavelet, level, k):
    """A batch at once, along the last two axes."""
    side = X.shape[-1]
    coefficients, slices = pywt.coeffs_to_array(
        pywt.wavedec2(X, wavelet, mode="periodization", level=level, axes=(-2, -1)), axes=(-2, -1)
    )
    largest = pywt.array_to_coeffs(keep_largest(coefficients, k), slices, output_format="wavedec2")
    return pywt.waverec2(largest, wavelet, mode="periodization", axes=(-2, -1))[:, :side, :side]


def in_chunks(function, X, chunk, *args):
    return np.concatenate([function(X[i : i + chunk], *args) for i in range(0, len(X), chunk)])


def on_ptwt(X, wavelet, level, k):
    coefficients = ptwt.fswavedec2(X, wavelet, mode="periodic", level=level)
    leaves = [coefficients[0], *(c for detail in coefficients[1:] for c in detail.values())]
    flat = torch.cat([leaf.flatten(1) for leaf in leaves], dim=1)
    threshold = flat.abs().topk(k, dim=1).values[:, -1]
    largest = [torch.where(leaf.abs() >= threshold[:, None, None], leaf, 0) for leaf in leaves]
    details = iter(largest[1:])
    nested = (largest[0], *({key: next(details) for key in detail} for detail in coefficients[1:]))
    return ptwt.fswaverec2(nested, wavelet)


def run(n, side, wavelet, level, k, rounds):
    X = np.random.default_rng(0).random((n, side, side), dtype=np.float32)
    T = torch.from_numpy(X[:1000])
    basis = WaveletBasis(wavelet, (side, side), level)
    ours = X[..., None]
    error = np.abs(basis.sparsify(ours[:200], [k])[..., 0] - pywavelets(X[:200].astype(float), wavelet, level, k)).max()
    contenders = {
        "skrobust, 2 threads": lambda: basis.sparsify(ours, [k], n_jobs=2),
        "skrobust, 1 thread": lambda: basis.sparsify(ours, [k], n_jobs=1),
        "PyWavelets, an image at a time": lambda: in_chunks(pywavelets, X[:500], 1, wavelet, level, k),
        **{
            f"PyWavelets, batches of {chunk}": lambda chunk=chunk: in_chunks(
                pywavelets, X[:5000], chunk, wavelet, level, k
            )
            for chunk in CHUNKS
        },
        "ptwt, separable, 2 threads": lambda: on_ptwt(T, wavelet, level, k),
    }
    images = {name: 500 if "a time" in name else min(n, 5000) if "batches" in name else n for name in contenders}
    images["ptwt, separable, 2 threads"] = len(T)
    timed = summary(race(contenders, rounds=rounds))
    per_second = {name: images[name] / s["median"] for name, s in timed.items()}
    batched = max(per_second[f"PyWavelets, batches of {chunk}"] for chunk in CHUNKS)
    return {
        "images": n,
        "side": side,
        "wavelet": wavelet,
        "level": level,
        "k": k,
        "largest_difference_to_pywavelets_float64": float(error),
        "images_per_second": per_second,
        "seconds": timed,
        "ratio_to_batched_pywavelets": per_second["skrobust, 2 threads"] / batched,
        "ratio_to_batched_pywavelets_one_thread": per_second["skrobust, 1 thread"] / batched,
        "ratio_to_pywavelets_loop": per_second["skrobust, 2 threads"] / per_second["PyWavelets, an image at a time"],
        "ratio_to_ptwt": per_second["skrobust, 2 threads"] / per_second["ptwt, separable, 2 threads"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", default=RESULTS / "bench_wavelet.json")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Level value")
    torch.set_num_threads(2)
    # OpenBLAS workers that spin would slow whoever comes next.
    with threadpool_limits(1, user_api="blas"):
        workloads = [run(*workload, args.rounds) for workload in WORKLOADS]
    write_json(
        args.output,
        {
            "machine": machine("numpy", "numba", "PyWavelets", "ptwt", "torch"),
            "dtype": "float32",
            "statistic": "median of the rounds",
            "workloads": workloads,
        },
    )
    for w in workloads:
        print(f"{w['images']} x {w['side']} x {w['side']} {w['wavelet']} level {w['level']}, K = {w['k']}")
        for name, rate in w["images_per_second"].items():
            print(f"  {name:34s} {rate / 1e3:9.1f} thousand images a second")
        print(
            f"  {w['ratio_to_batched_pywavelets']:.1f} x batched PyWavelets "
            f"({w['ratio_to_batched_pywavelets_one_thread']:.1f} x on one thread), "
            f"{w['ratio_to_pywavelets_loop']:.0f} x the loop, {w['ratio_to_ptwt']:.0f} x ptwt"
        )


if __name__ == "__main__":
    main()
