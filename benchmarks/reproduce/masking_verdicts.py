"""The masking checks over our own front ends on MNIST, under a naive evaluation and under the default attacks.

    SKROBUST_DATA=DIR python benchmarks/reproduce/masking_verdicts.py              # 5 minutes of one core
    python benchmarks/reproduce/masking_verdicts.py --quick                        # seconds, bundled digits

Each classifier is fitted on images as its front end leaves them (5000 training images; CNN 10 000). The checks look at
100 of 250 test images, at the eps of the grid whose attacks come nearest to breaking half. They are run twice, each
time in doubt of another evaluation: PGD with exact gradients alone, as one would attack a plain classifier, and the
report's default attacks, that differentiate each front end in every way. Transfer is made from the same classifier
without front end. Nothing is tuned here: these are verdicts on evaluations, not a comparison of defences. Writes
masking_verdicts.json and the tables of docs/results/masking_checks.md.
"""

import json
import pathlib
import sys
import time

import torch
from _linear_svm import linear_svm, read_arguments, wavelet_front_end
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from skorch import NeuralNetClassifier

from skrobust import PolarizingCoder
from skrobust.attacks import PGD
from skrobust.datasets import load_dataset
from skrobust.evaluation import masking_checks, robustness_report
from skrobust.evaluation.masking import CHECKS
from skrobust.evaluation.scoring.robust import evenly_spread

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _mnist_cnn import TwoConvolutions

NAME, SEED = "masking_verdicts", 0
PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "results" / "masking_checks.md"
NAIVE, DEFAULT = "PGD, exact gradients", "default attacks"
SMALL, LARGE = (0.05, 0.1, 0.15, 0.2), (0.1, 0.2, 0.3, 0.4)
TITLES = [check.title for check in CHECKS]


def pipelines(image_shape, quick):
    """Front end and classifier of each row, its eps, and the classifier that transfer starts from."""

    def svm(front_end=None):
        return linear_svm(front_end, loss="squared_hinge", C=0.001, max_iter=300, tol=1e-2, random_state=SEED)

    def mlp(*front_ends):
        net = MLPClassifier((100,), max_iter=30 if quick else 15, random_state=SEED)
        return make_pipeline(*front_ends, net)

    def cnn(*front_ends):
        torch.manual_seed(SEED)
        net = NeuralNetClassifier(
            TwoConvolutions,
            criterion=torch.nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=2e-3,
            batch_size=128,
            max_epochs=3,
            train_split=None,
            iterator_train__shuffle=True,
            classes=list(range(10)),
            verbose=0,
        )
        return make_pipeline(*front_ends, net)

    def logistic(*coders):
        return make_pipeline(*coders, LogisticRegression(C=0.01, max_iter=200))

    def wavelet(name):
        return wavelet_front_end(name, image_shape, 0.3 if quick else 0.05)

    found = {
        "none, SVM": (svm(), SMALL, None),
        "db5, 5 %, SVM": (svm(wavelet("db5")), SMALL, svm()),
        "Haar, 5 %, SVM": (svm(wavelet("haar")), SMALL, svm()),
        "Haar, 5 %, MLP": (mlp(wavelet("haar")), SMALL, mlp()),
        "db5, 5 %, CNN": (cnn(wavelet("db5")), LARGE, cnn()),
        "PolarizingCoder, pixels, logistic": (logistic(PolarizingCoder(image_shape=image_shape)), LARGE, logistic()),
        "PolarizingCoder, Haar, logistic": (
            logistic(PolarizingCoder("haar", levels="ternary", image_shape=image_shape)),
            LARGE,
            logistic(),
        ),
    }
    return {name: parts for name, parts in found.items() if not (quick and "CNN" in name)}


def main():
    arguments = read_arguments(__doc__)
    torch.set_num_threads(1)
    quick = arguments.quick
    name, n_test = ("digits", 80) if quick else ("mnist", 250)
    options = {} if quick else {"data_home": arguments.data_home}
    train, test = (load_dataset(name, split=split, **options) for split in ("train", "test"))
    chosen = evenly_spread(len(test.target), n_test)
    X, y = test.data[chosen], test.target[chosen]
    path = None if arguments.output is None else arguments.output / f"{NAME}.json"
    # A run that was stopped goes on with the rows that are missing.
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path is not None and path.exists() else {}
    for row, (model, eps, undefended) in pipelines(train.image_shape, quick).items():
        if row in rows:
            continue
        started = time.perf_counter()
        n_train = 500 if quick else 10000 if "CNN" in row else 5000
        fitted = [one and one.fit(train.data[:n_train], train.target[:n_train]) for one in (model, undefended)]
        rows[row] = judged(*fitted, X, y, eps, train.image_shape, arguments)
        rows[row]["n_train"] = n_train
        rows[row]["seconds"] = round(time.perf_counter() - started)
        print(f"{row}: {rows[row]['seconds']} s", *evidence(rows[row]), sep="\n  ", flush=True)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = {"what": __doc__.splitlines()[0], "seed": SEED, "n_test": len(y), "rows": rows}
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if not quick:
        write_page(rows)


def judged(model, undefended, X, y, eps, image_shape, arguments):
    """Accuracy under the default attacks, and the verdicts on both evaluations at one eps."""
    # The report makes its own checks at an eps of its own choice; here both evaluations are to be judged at one.
    short = {"eps": eps, "random_state": SEED, "image_shape": image_shape, "verbose": arguments.verbose}
    report = robustness_report(model, X, y, checks=True, n_examples=0, baseline=undefended, **short)
    default = report.checks["model"]
    at = next(verdict.figures["eps"] for verdict in default if verdict.check == "one step beats many")
    naive = PGD(n_iter=40, n_restarts=2, loss="margin", gradient="exact", random_state=SEED)
    params = {"eps": at, "baseline": undefended, "image_shape": image_shape, "random_state": SEED}
    verdicts = {NAIVE: masking_checks(model, X, y, attacks=naive, **params), DEFAULT: default}
    return {
        "model": report.settings["models"]["model"],
        "eps": at,
        "clean": report.curve("model")[1][0],
        "attacked": dict(zip(*(values[1:].tolist() for values in report.curve("model")[:2]), strict=True)),
        "verdicts": {name: [verdict.as_dict() for verdict in found] for name, found in verdicts.items()},
    }


def evidence(row):
    """The warnings of a row in words."""
    lines = []
    for evaluation, verdicts in row["verdicts"].items():
        for verdict in verdicts:
            if verdict["status"] == "warning":
                lines.append(f"{evaluation}: **{verdict['check']}**. {verdict['evidence']}")
    return lines


def write_page(rows):
    """The tables, between the two marks of the page."""
    signs = {"passed": "passed", "warning": "**warning**", "not run": "not run"}
    lines = []
    for evaluation in (NAIVE, DEFAULT):
        lines += ["", f"## Evaluation: {evaluation}", "", "| check | " + " | ".join(rows) + " |"]
        lines.append("| --- |" + " --- |" * len(rows))
        for k, title in enumerate(TITLES):
            lines.append(
                f"| {title} | "
                + " | ".join(signs[row["verdicts"][evaluation][k]["status"]] for row in rows.values())
                + " |"
            )
        lines.append("| *eps* | " + " | ".join(f"{row['eps']:g}" for row in rows.values()) + " |")
    lines += ["", "## The evidence of every warning", ""]
    for name, row in rows.items():
        lines += [f"**{name}**", "", *(f"- {line}" for line in evidence(row) or ["No warning."]), ""]
    start, end = "<!-- tables -->", "<!-- end of tables -->"
    page = PAGE.read_text(encoding="utf-8")
    before, after = page[: page.index(start)], page[page.index(end) :]
    PAGE.write_text(before + start + "\n".join(lines) + "\n" + after, encoding="utf-8")


if __name__ == "__main__":
    main()
