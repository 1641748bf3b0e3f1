"""Certified training on MNIST by interval bounds: certified accuracy on all test images, and accuracy under attack.

    python benchmarks/reproduce/certified_mnist.py --data-home DIR --models DIR    # about half an hour on two cores
    python benchmarks/reproduce/certified_mnist.py --quick                         # a minute, on the bundled digits

One small CNN with batch normalisation, trained by `TorchClassifier(certified=IntervalBound(...))` for each radius of
the certificate. The certificate is rounded outward and holds for the float32 network. APGD attacks the first 1000 test
images: no accuracy under attack may be below the certified one. Beside it the published marks. Training resumes from
checkpoints in the folder of the models. Writes certified_mnist.json and docs/results/certified_mnist.md.
"""

import argparse
import json
import pathlib
import time

import numpy as np
import torch
from _race import RESULTS, machine, write_json
from torch import nn

from skrobust import TorchClassifier
from skrobust.attacks import APGD
from skrobust.certificates import certify
from skrobust.datasets import load_digits_images, load_mnist
from skrobust.nn import IntervalBound

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "results" / "certified_mnist.md"
MARKS = {
    "IBP, Gowal et al. 2019": {"0.1": 97.1, "0.2": 95.5, "0.3": 91.8},
    "CTBench 2024, best": {"0.1": 98.4, "0.3": 93.9},
}
FULL = {"radii": {"0.1": 0.15, "0.3": 0.35}, "max_epochs": 30, "n_attacked": 1000, "batch_size": 256}
QUICK = {"radii": {"0.1": 0.1}, "max_epochs": 10, "n_attacked": 50, "batch_size": 64}


def network(side):
    """Two convolutions and a hidden layer, each with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 100),
        nn.BatchNorm1d(100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def trained(eps, size, folder, X, y, side):
    """The classifier for one radius of the certificate, and the CPU seconds of its training."""
    torch.manual_seed(0)
    model = TorchClassifier(
        network(side),
        certified=IntervalBound(size["radii"][eps]),
        max_epochs=size["max_epochs"],
        batch_size=size["batch_size"],
        lr=1e-3,
        max_gradient_norm=10.0,
        normalize=None,
        precision="bfloat16",
        image_shape=(side, side),
        random_state=0,
        verbose=1,
    )
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        model.set_params(checkpoint=folder / f"certified_mnist_{eps}.pt")
    begin = time.process_time()
    model.fit(X, y)
    return model, time.process_time() - begin


def measured(model, eps, size, X, y):
    """Clean, certified and attacked accuracy of one classifier."""
    certificate = certify(model, X, y, float(eps), radius=False)
    few = slice(size["n_attacked"])
    X_adv = APGD(eps=float(eps), n_iter=50, n_restarts=2, loss="dlr", random_state=0).perturb(model, X[few], y[few])
    standing = model.predict(X_adv) == y[few]
    broken = int(np.sum(certificate.certified[few] & ~standing))
    if broken:
        raise AssertionError(f"{broken} certified images were misclassified.")
    return {
        "clean": certificate.accuracy,
        "certified": certificate.certified_accuracy,
        "n": len(y),
        "certified_of_attacked": float(np.mean(certificate.certified[few])),
        "attacked": float(np.mean(standing)),
        "n_attacked": len(standing),
    }


def write_page(content, path):
    """The page of results, from the content of the JSON."""
    settings = content["settings"]
    rows = []
    for eps, row in content["results"].items():
        figures = [row["clean"], row["certified"], row["certified_of_attacked"], row["attacked"]]
        marks = ", ".join(f"{name} {values[eps]:.1f}" for name, values in MARKS.items() if eps in values)
        figures = " | ".join(f"{100 * figure:.1f}" for figure in figures)
        rows.append(f"| {eps} | {row['train_eps']:g} | {figures} | {row['cpu_seconds']:.0f} | {marks} |")
    row = next(iter(content["results"].values()))
    lines = [
        "# Certified training on MNIST",
        "",
        "```",
        "python benchmarks/reproduce/certified_mnist.py --data-home DIR --models models",
        "```",
        "",
        f"Accuracy in %: clean and certified on {row['n']} test images, certified and under APGD (l∞, white box) on",
        f"the first {row['n_attacked']}. A CNN of 0.17 million parameters, {settings['max_epochs']} epochs, one seed.",
        "Certificates are rounded outward. The published networks are larger and were trained longer.",
        "",
        "| eps | training eps | clean | certified | certified, first | under APGD | CPU s | published, certified |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-home", help="folder with MNIST; default: SKROBUST_DATA, then scikit-learn's data home")
    parser.add_argument("--models", type=pathlib.Path, help="folder that keeps checkpoints")
    parser.add_argument("--output", type=pathlib.Path, help=f"folder of the JSON; default: {RESULTS.name}/")
    parser.add_argument("--quick", action="store_true", help="a minute, on the bundled digits: a check, no result")
    parser.add_argument("--only", nargs="+", help="radii to train and measure now; the JSON keeps the others")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    torch.set_num_threads(1)
    if arguments.quick:
        X, y = load_digits_images(split="all", dtype="float32", return_X_y=True)
        (X_train, y_train), (X, y), side = (X[:1300], y[:1300]), (X[1300:], y[1300:]), 8
    else:
        options = {"data_home": arguments.data_home, "dtype": "float32", "return_X_y": True}
        (X_train, y_train), (X, y) = (load_mnist(split=split, **options) for split in ("train", "test"))
        side = 28
    output = arguments.output or (None if arguments.quick else RESULTS)
    path = None if output is None else output / "certified_mnist.json"
    results = json.loads(path.read_text(encoding="utf8"))["results"] if path is not None and path.exists() else {}
    for eps in arguments.only or size["radii"]:
        model, seconds = trained(eps, size, arguments.models, X_train, y_train, side)
        row = measured(model, eps, size, X, y)
        results[eps] = {**row, "train_eps": size["radii"][eps], "cpu_seconds": seconds, "history": model.history_}
        print(eps, {key: value for key, value in results[eps].items() if key != "history"}, flush=True)
    if path is not None:
        output.mkdir(parents=True, exist_ok=True)
        content = {"settings": {**size, "n_train": len(X_train), "seed": 0}, "machine": machine("torch")}
        content |= {"threat_model": "certified l-infinity; APGD white box", "marks": MARKS}
        content["results"] = dict(sorted(results.items()))
        write_json(path, content)
        write_page(content, PAGE if arguments.output is None else output / "certified_mnist.md")


if __name__ == "__main__":
    main()
