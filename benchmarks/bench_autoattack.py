"""The default report beside the AutoAttack authors' own program: images that either breaks and the other does not.

    python benchmarks/bench_autoattack.py --data-home data      # hours of one core; without --data-home: digits alone
    python benchmarks/bench_autoattack.py --only "digits: logistic" --renew ours

For each model and three eps: `robustness_report` with its defaults, and the standard cascade of `pyautoattack` (APGD
on cross-entropy, targeted APGD, targeted FAB, Square of 5000 queries) on what `as_module` returns, in float64.
With fewer than four classes its targeted DLR loss does not exist: there it runs APGD on cross-entropy, FAB and Square.
Both get the same images, those the model names rightly among the first `n` test images. Their attacked images are
brought into the ball exactly (float32 leaves it by a rounding), and for both the model's own `predict` decides. What
breaks an image at one eps counts at the larger ones, for both. A miss is an image and an eps at which their program
breaks an image that our report calls robust.

Writes benchmarks/results/bench_autoattack.json after each model and goes on where it stopped; `--renew` runs one side
again.
"""

import argparse
import json
import logging
import pathlib
import time

import numpy as np
import torch
from _race import RESULTS, machine, write_json
from pyautoattack import AutoAttack
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC, NuSVC

from skrobust import ConvSparseCoder, PolarizingCoder, WaveletSparsifier, as_module
from skrobust.datasets import load_mnist
from skrobust.evaluation import robustness_report

SEED = 0
# Eps at which most models keep some images and lose others; a scaler magnifies what changes pixels of little variance.
EPS = {"digits": (0.05, 0.1, 0.15), "mnist": (0.02, 0.05, 0.1)}
EPS_SCALED = (0.01, 0.02, 0.05)
SIDE = {"digits": 8, "mnist": 28}
N_TRAIN = {"digits": 1000, "mnist": 3000}


def zoo(dataset):
    """Models with gradients, unfitted, and how many images each is tried on."""
    shape, digits = (SIDE[dataset],) * 2, dataset == "digits"
    many, some, few = (120, 40, 12) if digits else (40, 25, 12)
    # Basis pursuit is exact and slow: on the larger images soft thresholding stands for it.
    params = {"kernel_size": 3} if digits else {"kernel_size": 7, "stride": 2, "pursuit": "thresholding"}
    coder = ConvSparseCoder(8, n_epochs=3, image_shape=shape, random_state=SEED, **params)
    wavelet = WaveletSparsifier("haar" if digits else "db5", n_nonzero_coefs=0.3, image_shape=shape)
    coarse = PolarizingCoder(n_thresholds=2, image_shape=shape)
    bayes = GaussianNB(var_smoothing=1e-2)
    scaled = make_pipeline(StandardScaler(), PCA(30, random_state=SEED), SVC(C=10.0))
    models = {
        "logistic": (LogisticRegression(max_iter=1000), many),
        "linear SVM": (LinearSVC(C=0.1, random_state=SEED), many),
        "MLP": (MLPClassifier((100,), max_iter=200, random_state=SEED), many),
        "scaler + PCA + SVC (RBF)": (scaled, few if digits else 100),
        "polarizing coder + logistic": (make_pipeline(coarse, LogisticRegression(max_iter=1000)), some),
        "Gaussian naive Bayes": (bayes, many),
    }
    if digits:
        models |= {
            "PCA + SVC (RBF)": (make_pipeline(PCA(30, random_state=SEED), SVC(C=3.0)), few),
            "linear discriminant": (LinearDiscriminantAnalysis(shrinkage=0.1, solver="lsqr"), many),
            "quadratic discriminant": (QuadraticDiscriminantAnalysis(reg_param=0.1), many),
            "Nystroem + logistic": (make_pipeline(Nystroem(random_state=SEED), LogisticRegression(C=10.0)), many),
            "one against one, linear SVMs": (OneVsOneClassifier(LinearSVC(C=0.1, random_state=SEED)), many),
            "tanh MLP, two layers": (MLPClassifier((50, 50), activation="tanh", random_state=SEED), many),
            "MLP, 3 classes": (MLPClassifier((50,), max_iter=400, random_state=SEED), many),
            "SVC (RBF), 2 classes": (SVC(C=3.0), many),
            "ridge": (RidgeClassifier(), some),
            "SGD, hinge": (SGDClassifier(random_state=SEED), some),
            "perceptron": (Perceptron(random_state=SEED), some),
            "multinomial naive Bayes": (MultinomialNB(), some),
            "Bernoulli naive Bayes": (BernoulliNB(binarize=None), some),
            "SVC (cubic)": (SVC(kernel="poly", C=3.0), few),
            "NuSVC (RBF)": (NuSVC(nu=0.1), few),
            "one against rest, logistic": (OneVsRestClassifier(LogisticRegression(max_iter=1000)), some),
            "output code, logistic": (OutputCodeClassifier(LogisticRegression(max_iter=1000), random_state=SEED), some),
            "calibrated linear SVM": (CalibratedClassifierCV(LinearSVC(C=0.1, random_state=SEED)), some),
            "voting": (
                VotingClassifier([("linear", LogisticRegression(max_iter=1000)), ("bayes", bayes)], voting="soft"),
                some,
            ),
            "stacking": (StackingClassifier([("svm", LinearSVC(C=0.1, random_state=SEED)), ("bayes", bayes)]), some),
            "bagging": (BaggingClassifier(MLPClassifier((30,), random_state=SEED), 5, random_state=SEED), some),
        }
    return models | {
        "wavelet + SVC (RBF)": (make_pipeline(wavelet, SVC(C=10.0)), few),
        "convolutional coder + linear SVM": (make_pipeline(coder, LinearSVC(C=0.1, random_state=SEED)), few),
    }


def images(dataset, n_classes, data_home):
    """Training and test images as rows, of float32 values, and their labels."""
    if dataset == "digits":
        X, y = load_digits(return_X_y=True)
        X, order = X / 16, np.random.default_rng(SEED).permutation(len(y))
        parts = [(X[order[at]], y[order[at]]) for at in (slice(1000), slice(1000, None))]
    else:
        parts = [load_mnist(data_home, split=split, return_X_y=True) for split in ("train", "test")]
    (X, y), (X_test, y_test) = [(X[y < n_classes], y[y < n_classes]) for X, y in parts]
    n_train = N_TRAIN[dataset]
    # Both sides see the same numbers, whatever they compute in.
    X, X_test = (part.reshape(len(part), -1).astype(np.float32).astype(np.float64) for part in (X[:n_train], X_test))
    return X, y[:n_train].astype(int), X_test, y_test.astype(int)


class Rows(torch.nn.Module):
    """The module of a model of rows, for images of shape (n, 1, height, width); float32 outside, float64 inside."""

    def __init__(self, model):
        super().__init__()
        self.module = as_module(model, dtype="float64")

    def forward(self, x):
        return self.module(x.flatten(1).double()).float()


def ours(model, X, y, eps, shape):
    """Whether each image survives the report's defaults, of shape (n_eps, n_samples)."""
    report = robustness_report(model, X, y, eps=eps, checks=False, image_shape=shape, random_state=SEED)
    return report.worst_right("model")


def theirs(model, X, y, eps, shape):
    """Whether each image survives the standard cascade of `pyautoattack`."""
    network, classes = Rows(model), np.asarray(as_module(model).classes_)
    x = torch.tensor(X, dtype=torch.float32).reshape(-1, 1, *shape)
    labels = torch.as_tensor(np.searchsorted(classes, y))
    right, rows = np.ones(len(y), dtype=bool), []
    for value in eps:
        cascade = AutoAttack(network, eps=value, seed=SEED, **_version(len(classes)))
        cascade.fab.n_target_classes = len(classes) - 1
        attacked, _ = cascade.run_standard_evaluation(x, labels, batch_size=200)
        attacked = attacked.flatten(1).double().numpy()
        attacked = np.clip(attacked, np.maximum(X - value, 0), np.minimum(X + value, 1))
        right = right & (model.predict(attacked) == y)
        rows.append(right)
    return np.array(rows)


def _version(n_classes):
    if n_classes >= 4:
        return {"version": "standard"}
    return {"version": "custom", "attacks": ["apgd-ce", "fab", "square"]}


SIDES = {"ours": ours, "theirs": theirs}
MISSED = ("missed_by_ours", "missed_by_theirs")


def compare(dataset, model, eps, n, n_classes, *, data_home, earlier, renew, sides):
    """One model's figures; sides that `earlier` holds are not run again."""
    X, y, X_test, y_test = images(dataset, n_classes, data_home)
    model.fit(X, y)
    X, y = X_test[:n], y_test[:n]
    known = model.predict(X) == y
    X, y = X[known], y[known]
    entry = {"n": len(y), "eps": list(eps), "clean_accuracy": float(known.mean())}
    entry["model"] = " ".join(repr(model).split())
    if any(earlier.get(key) != value for key, value in entry.items()):
        earlier = {}
    for side, run in SIDES.items():
        if side in earlier and side not in renew:
            entry[side] = earlier[side]
        if side in entry or side not in sides:
            continue
        started = time.process_time()
        right = run(model, X, y, eps, (SIDE[dataset],) * 2)
        entry[side] = {
            "cpu_seconds": round(time.process_time() - started, 1),
            "robust": right.sum(axis=1).tolist(),
            "broken": [np.flatnonzero(~row).tolist() for row in right],
        }
    if len(entry.keys() & SIDES.keys()) < len(SIDES):
        return entry
    pairs = [
        (set(own), set(other)) for own, other in zip(entry["ours"]["broken"], entry["theirs"]["broken"], strict=True)
    ]
    entry["missed_by_ours"] = [len(other - own) for own, other in pairs]
    entry["missed_by_theirs"] = [len(own - other) for own, other in pairs]
    return entry


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home", default=None, help="folder with MNIST; without it, digits alone")
    parser.add_argument("--only", nargs="*", help='parts of names such as "mnist: MLP"')
    parser.add_argument("--renew", nargs="*", default=(), choices=list(SIDES), help="sides to run again")
    parser.add_argument("--sides", nargs="*", default=list(SIDES), choices=list(SIDES), help="sides to run at all")
    parser.add_argument("--share", type=float, default=1.0, help="share of the images to try")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "bench_autoattack.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    results = json.loads(args.output.read_text(encoding="utf8"))["models"] if args.output.exists() else {}
    for dataset in ("digits", "mnist") if args.data_home else ("digits",):
        for name, (model, n) in zoo(dataset).items():
            key = f"{dataset}: {name}"
            if args.only and not any(part in key for part in args.only):
                continue
            n_classes = int(name.split()[-2]) if name.endswith("classes") else 10
            n = max(1, round(args.share * n))
            eps = EPS_SCALED if "scaler" in name else EPS[dataset]
            params = {"data_home": args.data_home, "renew": args.renew, "sides": args.sides}
            results[key] = compare(dataset, model, eps, n, n_classes, earlier=results.get(key, {}), **params)
            show(key, results[key])
            write_json(args.output, content(results))
    print(table(results))


def show(name, entry):
    """A model's figures in one line."""
    known = {side: (entry[side]["robust"], entry[side]["cpu_seconds"]) for side in SIDES if side in entry}
    missed = {word: entry[word] for word in MISSED if word in entry}
    print(name, entry["n"], known, missed, flush=True)


def table(results):
    """The figures as a table in Markdown: images left at each eps, and those that only one side breaks."""
    lines = ["| model | n | eps | ours left | theirs left | missed by ours | missed by theirs | CPU s, ours / theirs |"]
    lines.append("| --- " * 8 + "|")
    for name, entry in sorted(results.items()):
        if not all(side in entry for side in SIDES):
            continue
        own, other = entry["ours"], entry["theirs"]
        cells = [name, str(entry["n"]), *(_listed(v) for v in (entry["eps"], own["robust"], other["robust"]))]
        cells += [_listed(entry[word]) for word in MISSED]
        cells.append(f"{own['cpu_seconds']} / {other['cpu_seconds']}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _listed(values):
    return ", ".join(f"{value:g}" for value in values)


def content(results):
    """What the result file holds."""
    return {
        "what": __doc__.splitlines()[0],
        "machine": machine("torch", "scikit-learn", "numba", "pyautoattack"),
        "seed": SEED,
        "pairs": sum(len(entry["eps"]) * entry["n"] for entry in results.values() if MISSED[0] in entry),
        **{word: sum(sum(entry.get(word, [])) for entry in results.values()) for word in MISSED},
        "models": results,
    }


if __name__ == "__main__":
    main()
