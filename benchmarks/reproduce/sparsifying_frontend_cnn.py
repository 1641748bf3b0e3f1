"""The CNN of "Robust adversarial learning via sparsifying front ends" (arXiv 1810.10625) under adaptive attacks.

    python benchmarks/reproduce/sparsifying_frontend_cnn.py --data-home data --models models    # about 15 min, one core
    python benchmarks/reproduce/sparsifying_frontend_cnn.py --data-home data --models models --quick    # 3 minutes

The paper's worst figures on MNIST, PGD with 100 restarts through one backward pass, are 92.18, 61.04 and 13.15 % at
l-infinity 0.1, 0.2 and 0.3 (Tables II and III). Here the same network meets attacks that differentiate the front end in
four ways, and the worst case of each image counts: PGD with restarts, then APGD and the cascade (APGD, targeted APGD,
FAB, Square) on the images that survive. Square alone, a black box, checks that no gradient is masked. For comparison
the same network without front end, trained on clean images and on images with Gaussian noise.

Two convolutions, two hidden layers of 1000 with dropout; coif1, level 1, rho = 3.5 %, clip to [0, 1]; trained on
sparsified images, without adversarial training. Accuracy is that of the Pipeline's own `predict`.

Writes benchmarks/results/sparsifying_frontend_cnn.json, after each attack: started again, it goes on where it was
stopped. The linear SVM: sparsifying_frontend_svm.py.
"""

import argparse
import json
import pathlib
import sys
import time

import numpy as np
import torch
from sklearn.pipeline import make_pipeline
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from threadpoolctl import threadpool_limits
from torch import nn

from skrobust import WaveletSparsifier
from skrobust.attacks import APGD, PGD, Cascade, Square
from skrobust.datasets import load_mnist
from skrobust.nn import make_network

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _race import RESULTS, machine, write_json

SHAPE = (28, 28)
NOISE = 0.3  # standard deviation
PAPER = {
    "defended": {"clean": 98.97, "0.1": 92.18, "0.2": 61.04, "0.3": 13.15},
    "undefended": {"clean": 99.31, "0.2": 5.12},
    "attack": "PGD, 100 steps of 0.05, 100 restarts, iterated projections",
}


class PaperCNN(nn.Module):
    """The paper's four layers; takes images as rows, optionally with Gaussian noise in training."""

    def __init__(self, noise_std=0.0):
        super().__init__()
        self.network = make_network("front_end_4_layers", n_classes=10, image_shape=SHAPE)
        self.noise_std = noise_std

    def forward(self, X):
        if self.training and self.noise_std:
            X = X + self.noise_std * torch.randn_like(X)
        return self.network(X.reshape(-1, 1, *SHAPE))


def front_end(wavelet, rho):
    """The paper's defence, fitted: it learns nothing but the size of the images."""
    sparsifier = WaveletSparsifier(wavelet, n_nonzero_coefs=rho, level=1, clip=(0, 1), image_shape=SHAPE)
    return sparsifier.fit(np.zeros((1, 784), dtype=np.float32))


def trained_cnn(state, X, y, epochs, noise_std=0.0):
    """The CNN as a skorch classifier, trained on X or loaded from the file `state`."""
    net = NeuralNetClassifier(
        PaperCNN,
        module__noise_std=noise_std,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=100,
        max_epochs=epochs,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks=[LRScheduler(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)],
        classes=list(range(10)),
        verbose=0,
    )
    if state.exists():
        net.initialize()
        net.load_params(f_params=state)
        return net
    torch.manual_seed(0)
    net.fit(X, y)
    state.parent.mkdir(parents=True, exist_ok=True)
    net.save_params(f_params=state)
    return net


def suite(eps, size, seed):
    """Attacks in order; each is run on the images that survived the earlier ones."""
    common = {"eps": eps, "gradient": "worst", "random_state": seed}
    return [
        PGD(n_iter=size["n_iter"], n_restarts=size["n_restarts"], loss="margin", **common),
        APGD(n_iter=2 * size["n_iter"], **common),
        Cascade(
            n_iter=size["cascade_n_iter"],
            n_targets=size["n_targets"],
            n_queries=size["n_queries"],
            image_shape=SHAPE,
            **common,
        ),
    ]


def accuracy(model, X, y):
    return float(np.mean(model.predict(X) == y))


def attack_all(model, X, y, eps, size, seed, record, save):
    """Accuracy after each attack of the suite in turn, and under Square alone; skips results that `record` has."""
    start = time.process_time()
    standing = np.array(record.setdefault("standing", list(range(len(X)))), dtype=int)
    after = record.setdefault("adaptive", [])
    for attack in suite(eps, size, seed)[len(after) :]:
        if len(standing):
            X_adv = attack.perturb(model, X[standing], y[standing])
            standing = standing[model.predict(X_adv) == y[standing]]
        after.append({"accuracy": len(standing) / len(X), **attack.describe()})
        record["standing"] = standing.tolist()
        save()
        print(f"    eps {eps}: {after[-1]['accuracy']:.1%} after {after[-1]['name']}", flush=True)
    if "square_alone" not in record:
        square = Square(eps=eps, n_iter=size["n_queries"], image_shape=SHAPE, random_state=seed)
        record["square_alone"] = {"accuracy": accuracy(model, square.perturb(model, X, y), y), **square.describe()}
        save()
        print(f"    eps {eps}: {record['square_alone']['accuracy']:.1%} under Square alone", flush=True)
    print(f"    {time.process_time() - start:.0f} s", flush=True)


def trained_models(args, size):
    """The CNN behind the front end, and those without."""
    X, y = load_mnist(args.data_home, return_X_y=True)
    X, y = X[: size["n_train"]], y[: size["n_train"]]
    sparse = front_end("coif1", 0.035)
    folder, label = pathlib.Path(args.models), f"{len(X)}_{size['epochs']}.pt"
    behind = trained_cnn(folder / f"sparse_cnn_{label}", sparse.transform(X), y, size["epochs"])
    return {
        "defended": make_pipeline(sparse, behind),
        "undefended": trained_cnn(folder / f"plain_cnn_{label}", X, y, size["epochs"]),
        "undefended, noise in training": trained_cnn(folder / f"noise_cnn_{label}", X, y, size["epochs"], NOISE),
    }


FULL = {
    "n_train": 10000,
    "epochs": 3,
    "n_test": 300,
    "radii": [0.1, 0.2, 0.3],
    "n_iter": 20,
    "n_restarts": 4,
    "cascade_n_iter": 10,
    "n_targets": 3,
    "n_queries": 300,
}
QUICK = {**FULL, "n_test": 40, "n_restarts": 1, "cascade_n_iter": 5, "n_queries": 50}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home", default=None)
    parser.add_argument("--models", default="models", help="folder that keeps the trained networks")
    parser.add_argument("--quick", action="store_true", help="fewer images, restarts and queries")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=None)
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    name_of_file = "sparsifying_frontend_cnn_quick.json" if args.quick else "sparsifying_frontend_cnn.json"
    torch.set_num_threads(1)
    path = pathlib.Path(args.output or RESULTS / name_of_file)
    conditions = {
        "machine": machine("torch", "scikit-learn", "skorch"),
        "settings": size,
        "norm": "linf",
        "seed": args.seed,
        "noise_std_in_training": NOISE,
        "paper_percent": PAPER,
    }
    results = earlier_results(path, conditions)
    with threadpool_limits(1, user_api="blas"):
        models = trained_models(args, size)
        X_all, y_all = load_mnist(args.data_home, split="test", return_X_y=True)
        X, y = X_all[: size["n_test"]], y_all[: size["n_test"]]
        for name, model in models.items():
            result = results.setdefault(name, {"attacked": {}})
            if "clean" not in result:
                result["clean_on_all_test_images"] = accuracy(model, X_all, y_all)
                result["clean"] = accuracy(model, X, y)
            print(f"{name}: {result['clean_on_all_test_images']:.2%} clean, attacked on {len(X)}", flush=True)
            for eps in size["radii"]:
                record = result["attacked"].setdefault(str(eps), {})
                attack_all(
                    model,
                    X,
                    y,
                    eps,
                    size,
                    args.seed,
                    record,
                    lambda: write_json(path, {**conditions, "results": results}),
                )


def earlier_results(path, conditions):
    """Results of an earlier run under the same conditions."""
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text(encoding="utf8"))
    results = earlier.pop("results")
    return results if earlier == json.loads(json.dumps(conditions)) else {}


if __name__ == "__main__":
    main()
