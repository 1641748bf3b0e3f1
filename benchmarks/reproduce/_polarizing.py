"""What the scripts on polarized codes share."""

import time

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from skrobust.certificates import certify
from skrobust.evaluation import wilson_interval
from skrobust.evaluation._certified import make_certified_scorer


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
