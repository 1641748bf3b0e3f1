"""Time of an input gradient through a multiclass RBF SVC: 10 classes, 3000 support vectors, 1000 images of 784 pixels.

Run: python benchmarks/bench_bridge.py [--threads 2]. Writes benchmarks/results/bench_bridge.json.
"""

import argparse
import time

import numpy as np
import torch
from _race import RESULTS, machine, write_json
from sklearn.svm import SVC

from skrobust import as_module


def overlapping_classes(n_samples, rng):
    """Images of 784 pixels in [0, 1] from 10 classes that overlap so much that nearly all become support vectors."""
    y = np.arange(n_samples) % 10
    means = rng.uniform(0.4, 0.6, size=(10, 784))
    return np.clip(means[y] + rng.normal(scale=0.3, size=(n_samples, 784)), 0, 1), y


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", default=RESULTS / "bench_bridge.json")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    rng = np.random.default_rng(0)
    X, y = overlapping_classes(3000, rng)
    model = SVC(C=10.0).fit(X, y)
    images, labels = overlapping_classes(1000, rng)
    start = time.perf_counter()
    expected = model.decision_function(images)
    reference = time.perf_counter() - start
    print(f"{len(model.support_)} support vectors, {settings.threads} threads, torch {torch.__version__}")
    print(f"scikit-learn's decision_function (no gradient): {reference:.3f} s")
    seconds = {}
    for dtype in ("float64", "float32"):
        module = as_module(model, dtype=dtype)
        error = np.abs(module.decision_function(torch.tensor(images)).numpy() - expected)
        times = []
        for _ in range(settings.repeats):
            start = time.perf_counter()
            batch = torch.tensor(images, dtype=getattr(torch, dtype), requires_grad=True)
            loss = torch.nn.functional.cross_entropy(module(batch), torch.tensor(labels), reduction="sum")
            torch.autograd.grad(loss, batch)
            times.append(time.perf_counter() - start)
        seconds[dtype] = times
        print(
            f"{dtype}: input gradient of 1000 images in {np.median(times):.3f} s (median of {settings.repeats}); "
            f"forward pass: median difference from scikit-learn {np.median(error):.1e}, "
            f"more than 0.01 (a vote on the other side) for {np.mean(error > 0.01):.2%} of the scores"
        )
    write_json(
        settings.output,
        {
            "machine": machine("torch", "scikit-learn"),
            "threads": settings.threads,
            "n_support": len(model.support_),
            "n_classes": 10,
            "n_images": len(images),
            "n_features": images.shape[1],
            "seed": 0,
            "scikit_learn_decision_function_seconds": reference,
            "input_gradient_seconds": seconds,
        },
    )


if __name__ == "__main__":
    main()
