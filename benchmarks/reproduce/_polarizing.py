"""What the scripts on polarized codes share."""

import argparse
import json
import pathlib
import time
import warnings

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

import skrobust
from skrobust.certificates import certify
from skrobust.evaluation import make_certified_scorer, wilson_interval

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results"


def read_arguments(doc, parts):
    """The arguments that these scripts take; `parts` can be run one by one."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-home", help="folder with the data; default: SKROBUST_DATA, then scikit-learn's")
    parser.add_argument("--output", type=pathlib.Path, help=f"folder of the JSON; default: {RESULTS.name}/")
    parser.add_argument("--quick", action="store_true", help="seconds, images that come with libraries: no result")
    parser.add_argument("--only", nargs="+", choices=list(parts), help="parts to run; the JSON keeps the others'")
    parser.add_argument("--n-jobs", type=int, default=2, help="processes of the grid searches")
    arguments = parser.parse_args()
    if arguments.output is None and not arguments.quick:
        arguments.output = RESULTS
    # Some solvers stop at max_iter; what they stop at is certified or attacked as it is.
    warnings.simplefilter("ignore", ConvergenceWarning)
    return arguments


def save_parts(arguments, name, head, parts):
    """Enter `parts` into NAME.json beside those of earlier runs; `head` says what the file is."""
    if arguments.output is None:
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"{name}.json"
    known = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}
    content = {**head, "skrobust": skrobust.__version__, "parts": {**known, **parts}}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}", flush=True)


def code_dropout(X, y, share, n_copies, seed=0):
    """`n_copies` of each code in which entries are zeroed with probability `share` and the rest scaled up.

    Nothing but a regulariser: neither eps nor any certificate enters.
    """
    if share == 0:
        return sparse.csr_array(X), y
    rng = np.random.default_rng(seed)
    copies = []
    for _ in range(n_copies):
        copy = sparse.csr_array(X)
        copy.data = (copy.data * (rng.random(copy.nnz) >= share) / (1 - share)).astype(copy.dtype)
        copy.eliminate_zeros()
        copies.append(copy)
    return sparse.vstack(copies, format="csr"), np.tile(y, n_copies)


def fit_with_dropout(coder, X, y, *, share, n_copies, C, max_iter):
    """A Pipeline of a coder and logistic regression that was trained on codes with dropout."""
    codes, labels = code_dropout(coder.fit(X).transform(X), y, share, n_copies)
    head = LogisticRegression(C=C, max_iter=max_iter).fit(codes, labels)
    return make_pipeline(coder, head)


def certified_search(model, grid, X, y, *, eps, n_jobs):
    """`GridSearchCV` for mean certified accuracy at the radii `eps`, on training images only."""
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(model, grid, scoring=make_certified_scorer(eps), cv=folds, n_jobs=n_jobs)
    started = time.perf_counter()
    search.fit(X, y)
    search.seconds_ = time.perf_counter() - started
    return search


def certified_row(model, X, y, eps):
    """Clean and certified accuracy with 95 % intervals, and how they were proved."""
    started = time.perf_counter()
    certificate = certify(model, X, y, max(eps))
    n = len(certificate.correct)

    def figure(share):
        return {"accuracy": share, "ci": list(wilson_interval(round(share * n), n))}

    row = {
        "clean": figure(certificate.accuracy),
        "certified": {
            f"{e:g}": figure(float(share)) for e, share in zip(eps, certificate.accuracy_at(eps), strict=True)
        },
        "method": certificate.method,
        "is_exact": certificate.is_exact,
        "norm": certificate.norm,
        "clip": certificate.clip,
        "n": n,
        "seconds": round(time.perf_counter() - started, 2),
    }
    return row


def print_rows(title, rows, eps):
    """The table as the documentation shows it."""
    print(f"\n{title}")
    print(f"{'':>34}{'clean':>9}" + "".join(f"{e:>9g}" for e in eps))
    for name, row in rows.items():
        shares = [row["clean"]["accuracy"], *(row["certified"][f"{e:g}"]["accuracy"] for e in eps)]
        print(f"{name:>34}" + "".join(f"{100 * share:>9.2f}" for share in shares))
