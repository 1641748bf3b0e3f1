"""White box with q passes beside ART's black boxes with 100 q queries, on one Pipeline that ART cannot see into.

    python benchmarks/reproduce/pipeline_white_box.py --data-home data    # about 5 minutes of one core

StandardScaler, WaveletSparsifier, PCA and SVC(RBF), trained on 5000 images. skrobust differentiates the whole Pipeline.
ART takes it for a black box (`BlackBoxClassifierNeuralNetwork`) and attacks it with HopSkipJump, which sees labels (all
that ART's own wrapper of a Pipeline tells), and with Square, which we let see decision values. Every pass of the white
box counts, forward or with a gradient, as the most that an image can need. The black boxes' questions are answered by
``as_module(pipeline)``: the same decision values, to 1e-9, in a tenth of the time. Who is right in the end is decided
by the Pipeline's own `predict`.

Writes benchmarks/results/pipeline_white_box.json after each attack; `--only mnist` renews one part of it.
"""

import argparse
import json
import pathlib
import sys
import time

import numpy as np
import torch
from art.attacks import evasion
from art.estimators.classification import BlackBoxClassifierNeuralNetwork
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from skrobust import WaveletSparsifier, as_module
from skrobust.attacks import APGD, CornerSearch
from skrobust.datasets import load_cifar10, load_mnist

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _race import RESULTS, machine, write_json

FACTOR = 100  # queries of a black box for one pass of the white box
LOADERS = {"mnist": load_mnist, "cifar10": load_cifar10}
FULL = {"n_train": 5000, "n_attacked": 100, "contests": ["mnist", "mnist, corners", "cifar10"]}
QUICK = {"n_train": 500, "n_attacked": 3, "contests": ["quick"]}


def contest(name, seed):
    """Data, a white box, the passes that an image needs at most, and the black boxes to compare it with."""
    if name == "mnist, corners":
        n_iter, n_targets = 10, 9
        attack = CornerSearch(eps=0.02, n_iter=n_iter, n_targets=n_targets, random_state=seed)
        return "mnist", attack, n_targets * (2 * n_iter + 1) + 2, ()  # what more passes reach
    params = {"eps": 0.5, "norm": "l2"} if name == "cifar10" else {"eps": 0.02}
    n_iter = {"mnist": 10, "cifar10": 5, "quick": 1}[name]
    attack = APGD(n_iter=n_iter, gradient="worst", random_state=seed, **params)
    data = "cifar10" if name == "cifar10" else "mnist"
    # Each of the four backward passes: its start and its iterates.
    return data, attack, 4 * (n_iter + 1) + 1, ("SquareAttack", "HopSkipJump")


def pipeline(X, y, image_shape):
    """The Pipeline of the comparison, fitted."""
    model = make_pipeline(
        StandardScaler(),
        WaveletSparsifier("db5", n_nonzero_coefs=0.1, level=1, image_shape=image_shape),
        PCA(60, random_state=0),
        SVC(C=10.0),
    )
    return model.fit(X, y)


class BlackBox:
    """The Pipeline for ART, which counts the images that it is asked about.

    Parameters
    ----------
    model : Pipeline
    image_shape : tuple
        (height, width) or (height, width, n_channels) of its rows.
    """

    def __init__(self, model, image_shape):
        self.module, self.n_queries = as_module(model), 0
        self.shape = (*image_shape, 1) if len(image_shape) == 2 else image_shape
        height, width, n_channels = self.shape
        n_classes = len(model.classes_)
        self.classifier = BlackBoxClassifierNeuralNetwork(
            self.answer, (n_channels, height, width), n_classes, clip_values=(0, 1), channels_first=True
        )

    def images(self, X):
        """Rows as images with their channels first."""
        return np.ascontiguousarray(np.moveaxis(X.reshape(-1, *self.shape), 3, 1))

    def rows(self, images):
        """Images with their channels first as rows."""
        return np.ascontiguousarray(np.moveaxis(images, 1, 3)).reshape(len(images), -1)

    @torch.no_grad()
    def answer(self, images):
        """Decision values."""
        self.n_queries += len(images)
        return self.module(torch.from_numpy(self.rows(images))).numpy()

    def attacked(self, name, X, y, norm, eps, budget, seed):
        """What an attack of ART makes of X with `budget` questions an image, and what it asked."""
        np.random.seed(seed)  # noqa: NPY002 (ART draws from it)
        if name == "SquareAttack":
            params = {"eps": eps, "max_iter": budget, "nb_restarts": 1, "p_init": 0.8}
        else:
            params = {"max_iter": steps_for(budget)}  # looks for the nearest adversarial image, whatever eps
        order = {"linf": np.inf, "l2": 2}[norm]
        attack = getattr(evasion, name)(self.classifier, norm=order, batch_size=len(X), verbose=False, **params)
        before = self.n_queries
        X_adv = self.rows(attack.generate(self.images(X), y=np.eye(self.classifier.nb_classes, dtype=np.float32)[y]))
        # Images that are lost ask no more.
        mean_queries = (self.n_queries - before) / len(X)
        return X_adv, {"name": f"ART {name}", "most_queries": budget, "mean_queries": mean_queries, **params}


def accuracy_within(model, X_adv, X, y, norm, eps):
    """Accuracy on attacked images; those farther away than eps, or not a number, count as not attacked."""
    order = {"linf": np.inf, "l2": 2}[norm]
    inside = np.linalg.norm(X_adv.astype(np.float64) - X, ord=order, axis=1) <= eps * (1 + 1e-5)
    return float(np.mean(model.predict(np.where(inside[:, None], X_adv, X)) == y))


def steps_for(budget, first=100, most=10000):
    """Steps of HopSkipJump whose estimates of the gradient take at least `budget` queries together."""
    steps, n_used = 0, 0
    while n_used < budget:
        steps += 1
        n_used += min(int(first * np.sqrt(steps)), most)
    return steps


def run(name, size, data_home, seed, save):
    """One contest; `save` is given what is known after each attack."""
    data, attack, n_passes, opponents = contest(name, seed)
    params = {"data_home": data_home, "dtype": "float32"}
    train, test = (LOADERS[data](split=split, **params) for split in ("train", "test"))
    order = np.random.default_rng(seed).permutation(len(train.target))[: size["n_train"]]
    model = pipeline(train.data[order], train.target[order], train.image_shape)
    X, y = test.data[:1000], test.target[:1000].astype(np.int64)
    right = np.flatnonzero(model.predict(X) == y)
    outcome = {"n_support": len(model[-1].support_), "clean_of_1000": len(right) / len(X), "rows": []}
    print(
        f"{name}: {outcome['clean_of_1000']:.1%} of 1000 are right, {outcome['n_support']} support vectors", flush=True
    )
    # Images that the Pipeline gets wrong are worth no query.
    X, y = X[right[: size["n_attacked"]]], y[right[: size["n_attacked"]]]

    def add(X_adv, row):
        share = accuracy_within(model, X_adv, X, y, attack.norm, attack.eps)
        outcome["rows"].append({"still_right": share, "norm": attack.norm, "eps": attack.eps, **row})
        save(outcome)
        print(f"  {share:.1%} of {len(X)} still right under {row['name']}: {row}", flush=True)

    add(attack.perturb(model, X, y), {**attack.describe(), "most_passes": n_passes})
    for opponent in opponents:
        start = time.process_time()
        box = BlackBox(model, train.image_shape)
        add(*box.attacked(opponent, X, y, attack.norm, attack.eps, FACTOR * n_passes, seed))
        print(f"  {time.process_time() - start:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home", default=None)
    parser.add_argument("--quick", action="store_true", help="few images")
    parser.add_argument("--only", nargs="*", help="contests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=None)
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    torch.set_num_threads(1)
    path = pathlib.Path(args.output or RESULTS / f"pipeline_white_box{'_quick' if args.quick else ''}.json")
    conditions = {
        "machine": machine("torch", "scikit-learn", "adversarial-robustness-toolbox"),
        "settings": size,
        "seed": args.seed,
    }
    results = {}
    if args.only and path.exists():
        earlier = json.loads(path.read_text(encoding="utf8"))
        results = earlier.pop("contests")
        if earlier != conditions:
            raise SystemExit(f"{path} was written under other conditions: run it whole.")
    with threadpool_limits(1, user_api="blas"):
        for name in args.only or size["contests"]:

            def save(outcome, name=name):
                write_json(path, {**conditions, "contests": {**results, name: outcome}})
                results[name] = outcome

            run(name, size, args.data_home, args.seed, save)


if __name__ == "__main__":
    main()
