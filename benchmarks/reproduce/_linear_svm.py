"""What the reproductions on linear SVMs share: arguments, images, Pipelines, searches, attacks, files of results."""

import argparse
import json
import pathlib
import time
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from sklearn.utils import shuffle

from skrobust import WaveletSparsifier
from skrobust.attacks import APGD, PGD, SemiWhiteBox, Square, WhiteBox
from skrobust.datasets import load_digits_images, load_mnist
from skrobust.evaluation import make_robust_scorer

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results"
LEVELS = [1, 2]
"""Of wavelet transforms, for searches: 28 and 8 pixels halve exactly twice."""


def read_arguments(doc):
    """The arguments that both scripts take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-home", help="folder with MNIST; default: SKROBUST_DATA, then scikit-learn's data home")
    parser.add_argument("--output", type=pathlib.Path, help=f"folder of the JSON and PNG; default: {RESULTS.name}/")
    parser.add_argument("--quick", action="store_true", help="seconds, on the bundled 8 x 8 digits: a check, no result")
    parser.add_argument("--n-jobs", type=int, default=2, help="processes of the grid searches")
    parser.add_argument("--verbose", action="store_true", help="progress bars")
    arguments = parser.parse_args()
    if arguments.output is None and not arguments.quick:
        arguments.output = RESULTS
    # The authors' max_iter=1000 is kept, and liblinear does not converge in it; the results record that instead.
    warnings.simplefilter("ignore", ConvergenceWarning)
    return arguments


def load_images(arguments, digits=None):
    """All 70 000 digits (quick: scikit-learn's 1797), or those of some classes, class after class as the authors do."""
    load = load_digits_images if arguments.quick else load_mnist
    home = {} if arguments.quick else {"data_home": arguments.data_home}
    bunch = load(split="all", **home)
    if digits is None:
        return bunch.data, bunch.target, bunch.image_shape
    order = np.concatenate([np.flatnonzero(bunch.target == digit) for digit in digits])
    return bunch.data[order], bunch.target[order], bunch.image_shape


def split_as_published(X, y, test_size=0.25, seed=1234):
    """Shuffle, then a stratified split: X_train, X_test, y_train, y_test."""
    X, y = shuffle(X, y, random_state=seed)
    return train_test_split(X, y, test_size=test_size, random_state=seed, stratify=y)


def to_symmetric(X):
    """Images in [0, 1] on the scale [-1, 1] on which the authors train their SVM."""
    return 2 * X - 1


def linear_svm(front_end=None, *, loss="hinge", **parameters):
    """The paper's classifier: front end on [0, 1] with its clip, then the scale [-1, 1], then a linear SVM."""
    steps = [] if front_end is None else [front_end]
    return make_pipeline(*steps, FunctionTransformer(to_symmetric), LinearSVC(loss=loss, **parameters))


def wavelet_front_end(wavelet, image_shape, n_nonzero_coefs=0.02):
    """The paper's defence: level 1, periodization, clip to [0, 1]."""
    return WaveletSparsifier(wavelet, n_nonzero_coefs=n_nonzero_coefs, level=1, clip=(0, 1), image_shape=image_shape)


def strengths(penalty, low, high, n):
    """Part of a grid: `n` values of C for the undefended SVM, hinge with l2, or squared hinge with l1.

    The l1 penalty is the linear classifier's own defence against l-infinity: the attack costs it eps times the l1
    norm of its weights. An opponent tuned hard is to have it.
    """
    rest = {"l2": {}, "l1": {"linearsvc__loss": ["squared_hinge"], "linearsvc__dual": [False]}}[penalty]
    return {"linearsvc__penalty": [penalty], "linearsvc__C": np.geomspace(low, high, n).tolist(), **rest}


def robust_search(pipeline, grid, X, y, *, eps, image_shape, arguments, max_samples=150):
    """`GridSearchCV` for accuracy under attack, on training images only, the same for every candidate.

    White box and gradients alone would choose what hides its gradients: random search is among the attacks.
    """
    n_iter, n_queries = (5, 30) if arguments.quick else (20, 300)
    scorer = make_robust_scorer(
        [
            WhiteBox(eps),
            PGD(eps, n_iter=n_iter, loss="margin", gradient="worst", random_state=0),
            Square(eps, n_iter=n_queries, image_shape=image_shape, random_state=0),
        ],
        max_samples=30 if arguments.quick else max_samples,
    )
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(clone(pipeline), grid, scoring=scorer, cv=folds, n_jobs=arguments.n_jobs)
    started = time.perf_counter()
    search.fit(X, y)
    best = ", ".join(f"{key.split('__')[1]}={_short(value)}" for key, value in search.best_params_.items())
    print(
        f"  {len(search.cv_results_['params'])} settings: {best}; {100 * search.best_score_:.1f} % in cross-validation"
    )
    search.seconds_ = time.perf_counter() - started
    return search


def describe_search(search, eps):
    """What a search did, for the JSON."""
    results = search.cv_results_
    return {
        "tuned_for": f"accuracy under attack at eps = {eps:g}",
        "scorer": " ".join(repr(search.scoring).split()),
        "folds": " ".join(repr(search.cv).split()),
        "n_settings": len(results["params"]),
        "chosen": search.best_params_,
        "cross_validated": float(search.best_score_),
        "candidates": [
            {"parameters": parameters, "mean": float(mean), "std": float(std)}
            for parameters, mean, std in zip(
                results["params"], results["mean_test_score"], results["std_test_score"], strict=True
            )
        ],
        "seconds": round(search.seconds_, 1),
    }


def strong_attacks(image_shape, *, n_restarts=2, n_queries=1000, n_iter=40):
    """All that the worst case per image is taken over: the paper's, gradients in four ways, adaptive steps, search."""
    return [
        SemiWhiteBox(),
        WhiteBox(),
        WhiteBox(iterated_projections="paper"),
        WhiteBox(iterated_projections="code"),
        *(
            PGD(loss="margin", n_iter=n_iter, n_restarts=n_restarts, gradient=gradient, random_state=0)
            for gradient in ("exact", "identity", "projection", "smooth")
        ),
        APGD(gradient="worst", n_iter=n_iter, random_state=0),
        Square(n_iter=n_queries, image_shape=image_shape, random_state=0),
    ]


def stopped_early(model):
    """Whether liblinear stopped at max_iter, before its tolerance was reached."""
    svm = model[-1]
    return bool(svm.n_iter_ >= svm.max_iter)


def save_json(arguments, name, content):
    """`content` as NAME.json in the output folder, if there is one."""
    if arguments.output is None:
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def save_figure(arguments, name, figure):
    """`figure` as NAME.png in the output folder, if there is one."""
    if arguments.output is None:
        return
    path = arguments.output / f"{name}.png"
    figure.savefig(path, dpi=160)
    print(f"wrote {path}")


def _short(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)
