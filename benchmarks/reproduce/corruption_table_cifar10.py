"""CIFAR-10 under CIFAR-10-C's corruptions at five severities: front ends beside none.

    SKROBUST_DATA=DIR python benchmarks/reproduce/corruption_table_cifar10.py     # about 10 minutes on 2 cores

The classifier is an RBF SVM on 150 principal components, fitted on 5000 training images as each front end leaves them;
1000 test images, the same for all. Corruptions come from `skrobust.evaluation.corrupt`, with the constants and the
8-bit truncation of CIFAR-10-C. These are random corruptions, not attacks: nothing here says that a front end
withstands an adversary. Writes corruption_table_cifar10.json and docs/results/corruptions.md.
"""

import argparse
import json
import pathlib
import time

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from skrobust import WaveletSparsifier
from skrobust.datasets import load_dataset
from skrobust.evaluation import corrupt, wilson_interval

RESULTS = pathlib.Path(__file__).parents[1] / "results"
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "results" / "corruptions.md"
SEED = 0
READING = "## Discussion"
KINDS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "gaussian_blur",
    "contrast",
    "jpeg_compression",
)
FRONT_ENDS = {  # kept share of luma and of each chroma channel
    "none": None,
    "sym9, (3.5, 1, 1) %": (0.035, 0.01, 0.01),
    "sym9, (10, 5, 5) %": (0.1, 0.05, 0.05),
    "sym9, (25, 10, 10) %": (0.25, 0.1, 0.1),
}


def fit(front_end, X, y):
    steps = [PCA(150, whiten=False, random_state=SEED), SVC(C=5, cache_size=500)]
    if front_end is not None:
        wavelet = WaveletSparsifier(
            "sym9", n_nonzero_coefs=front_end, level=1, color_space="ycbcr", clip=(0, 1), image_shape=(32, 32, 3)
        )
        steps.insert(0, wavelet)
    return make_pipeline(*steps).fit(X, y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home")
    parser.add_argument("--quick", action="store_true", help="random images, seconds: only shows that it runs")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "corruption_table_cifar10.json")
    parser.add_argument("--page", type=pathlib.Path, default=PAGE)
    args = parser.parse_args()
    start = time.perf_counter()
    if args.quick:
        rng = np.random.default_rng(SEED)
        X, X_test = rng.random((200, 3072), dtype=np.float32), rng.random((40, 3072), dtype=np.float32)
        y, y_test = np.arange(200) % 10, np.arange(40) % 10
    else:
        X, y = load_dataset("cifar10", data_home=args.data_home, split="train", return_X_y=True)
        X_test, y_test = load_dataset("cifar10", data_home=args.data_home, split="test", return_X_y=True)
        X, y, X_test, y_test = X[:5000], y[:5000], X_test[:1000], y_test[:1000]
    models = {name: fit(front_end, X, y) for name, front_end in FRONT_ENDS.items()}
    severities = (1, 5) if args.quick else (1, 2, 3, 4, 5)
    clean = {name: float(model.score(X_test, y_test)) for name, model in models.items()}
    rows = []
    for kind in KINDS[:2] if args.quick else KINDS:
        for severity in severities:
            corrupted = corrupt(X_test, kind, severity, random_state=SEED, image_shape=(32, 32, 3))
            scores = {name: float(model.score(corrupted, y_test)) for name, model in models.items()}
            rows.append({"kind": kind, "severity": severity, "accuracy": scores})
            print(kind, severity, {name: round(score, 3) for name, score in scores.items()}, flush=True)
    half_width = max(
        (high - low) / 2
        for row in rows
        for low, high in [wilson_interval(round(max(row["accuracy"].values()) * len(y_test)), len(y_test))]
    )
    content = {
        "classifier": "PCA(150) and SVC(C=5, rbf) on 5000 training images",
        "n_test": len(y_test),
        "seed": SEED,
        "seconds": time.perf_counter() - start,
        "clean": clean,
        "rows": rows,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(content, indent=1) + "\n")
    args.page.parent.mkdir(parents=True, exist_ok=True)
    # What people wrote below the table stays; it is theirs to keep true.
    earlier = args.page.read_text() if args.page.exists() else ""
    reading = earlier[earlier.index(READING) :] if READING in earlier else ""
    args.page.write_text(page(content, half_width) + ("\n" + reading if reading else ""))


def page(content, half_width):
    """The result as a page of the docs."""
    names = list(content["clean"])
    lines = [
        "# CIFAR-10 under common corruptions",
        "",
        "Made by `python benchmarks/reproduce/corruption_table_cifar10.py`. Accuracy in %, "
        f"n = {content['n_test']} test images (95 % intervals up to ± {100 * half_width:.1f} points), "
        f"seed {content['seed']}.",
        f"Classifier: {content['classifier']}, fitted on images as the front end leaves them. The corruptions have",
        "CIFAR-10-C's constants; they are random, not adversarial.",
        "",
        "| corruption | severity | " + " | ".join(names) + " |",
        "| --- | --- |" + " --- |" * len(names),
        "| clean | | " + " | ".join(f"{100 * content['clean'][name]:.1f}" for name in names) + " |",
    ]
    for row in content["rows"]:
        best = max(row["accuracy"].values())
        cells = [f"**{100 * a:.1f}**" if a == best else f"{100 * a:.1f}" for a in row["accuracy"].values()]
        lines.append(f"| {row['kind'].replace('_', ' ')} | {row['severity']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
