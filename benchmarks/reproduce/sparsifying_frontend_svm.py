"""The linear SVM of "Robust adversarial learning via sparsifying front ends" (arXiv 1810.10625), section VI-A.

    SKROBUST_DATA=DIR python benchmarks/reproduce/sparsifying_frontend_svm.py       # about 15 minutes on 2 cores
    python benchmarks/reproduce/sparsifying_frontend_svm.py --quick                 # seconds, bundled digits

MNIST, 3 against 7, l-infinity attacks. Shows, in this order:

1. Table I as published, for db5, coif1 and Haar: clean, semi-white box, white box, and iterated projections as the
   paper and as its authors' program have them; the spread over liblinear's seeds, and the same attacks without their
   clip.
2. The worst case per image over these and stronger attacks.
3. The SVM with and without front end when regularisation (and sparsity) are tuned for accuracy under attack.
4. Figure 6: curves over rho and over eps, with the worst case beside the published attacks.

Writes sparsifying_frontend_svm.json and .png.
"""

import time

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from _linear_svm import (
    LEVELS,
    describe_search,
    linear_svm,
    load_images,
    read_arguments,
    robust_search,
    save_figure,
    save_json,
    split_as_published,
    stopped_early,
    strengths,
    strong_attacks,
    wavelet_front_end,
)
from _svm_figure import draw
from sklearn.base import clone

from skrobust.attacks import SemiWhiteBox, WhiteBox
from skrobust.evaluation import robust_accuracy, robustness_report

NAME = "sparsifying_frontend_svm"
DIGITS = (3, 7)
WAVELETS = ("db5", "coif1", "haar")
EPS, RHO = 0.1, 0.02
PAPER = {"undefended": (98.64, 0.25, 0.25, None, None), "db5": (None, 98.37, 95.37, None, None)}
PUBLISHED = {
    "semi-white box": SemiWhiteBox(EPS),
    "white box": WhiteBox(EPS),
    "iterated projections, paper": WhiteBox(EPS, iterated_projections="paper", keep="last"),
    "iterated projections, code": WhiteBox(EPS, iterated_projections="code", keep="last"),
}
UNDEFENDED = "undefended"


def main():
    arguments = read_arguments(__doc__)
    quick = arguments.quick
    # Images this small go through faster on one thread; the searches run in processes.
    torch.set_num_threads(1)
    started = time.perf_counter()
    X, y, image_shape = load_images(arguments, DIGITS)
    X_train, X_test, y_train, y_test = split_as_published(X, y)
    # Where several attacks of many steps add up, a part of the test images; the split has shuffled them.
    n_strong = 40 if quick else 500
    X_part, y_part = X_test[:n_strong], y_test[:n_strong]
    rho = 0.15 if quick else RHO  # 2 % of 64 pixels is one coefficient
    content = {
        "what": __doc__.splitlines()[0],
        "data": {
            "name": "scikit-learn digits (--quick: a check, no result)" if quick else "MNIST, 60 000 + 10 000 merged",
            "classes": DIGITS,
            "n_train": len(y_train),
            "n_test": len(y_test),
            "n_test_of_worst_case_and_curves": len(y_part),
            "split_seed": 1234,
        },
        "eps": EPS,
        "rho": rho,
        "paper": {"columns": ["clean", *PUBLISHED], **PAPER},
    }

    print("fitting the SVMs of the paper")
    models = {UNDEFENDED: linear_svm(random_state=65).fit(X_train, y_train)}
    for wavelet in WAVELETS:
        front_end = wavelet_front_end(wavelet, image_shape, rho)
        models[wavelet] = linear_svm(front_end, random_state=1234).fit(X_train, y_train)
    content["stopped_at_max_iter"] = {name: stopped_early(model) for name, model in models.items()}

    attack_as_published(models, X_test, y_test, content, arguments)
    content["seeds_of_liblinear"] = spread_over_seeds(models, (X_train, y_train), (X_test, y_test), quick)

    print("tuning for accuracy under attack")
    tuned = tune(image_shape, X_train, y_train, content, arguments)
    report_worst_case(models | tuned, X_part, y_part, image_shape, content, arguments)

    print("curves")
    light = strong_attacks(image_shape, n_restarts=1, n_queries=20 if quick else 500, n_iter=5 if quick else 40)
    content["curve_over_rho"] = curve_over_rho(
        models["db5"], (X_train, y_train), (X_part, y_part), light, [0.1, 0.3] if quick else RHOS
    )
    content["curve_over_eps"] = curve_over_eps(models, X_part, y_part, light, [0.1, 0.2] if quick else EPSILONS)
    content["seconds"] = round(time.perf_counter() - started)
    save_json(arguments, NAME, content)
    save_figure(arguments, NAME, draw(content, UNDEFENDED))
    print(f"{content['seconds']} s")


def attack_as_published(models, X, y, content, arguments):
    """Table I: single attacks, last iterates, the box respected as by the authors; then without the box."""
    for key, clip in (("as_published", (0, 1)), ("as_published_without_clip", None)):
        attacks = [clone(attack).set_params(clip=clip) for attack in PUBLISHED.values()]
        report = robustness_report(
            models, X, y, eps=EPS, attacks=attacks, n_examples=0, checks=False, verbose=arguments.verbose
        )
        rows = {name: figures(report, name, list(PUBLISHED)) for name in models}
        content[key] = {"n": report.n_samples, "clip": clip, "models": rows}
        content["versions"] = report.versions
        print(f"\n{key.replace('_', ' ')}, eps = {EPS}, n = {report.n_samples}, accuracy in %")
        print(f"{'':>12}" + "".join(f"{column:>30}" for column in ("clean", *PUBLISHED)))
        for name, row in rows.items():
            print(f"{name:>12}" + "".join(f"{100 * one['accuracy']:>30.2f}" for one in row.values()))
    print()


def figures(report, name, labels):
    """Accuracy of one model under each attack of a report at its first eps, with intervals and settings."""
    _, accuracy, low, high = report.curve(name)
    found = {"clean": {"accuracy": accuracy[0], "ci": [low[0], high[0]]}}
    for k, label in enumerate(labels):
        _, accuracy, low, high = report.curve(name, k)
        trial = report.trials[name][k]
        found[label] = {
            "accuracy": float(accuracy[1]),
            "ci": [float(low[1]), float(high[1])],
            "attack": trial.settings,
            "seconds": round(float(trial.seconds[0]), 2),
        }
    return found


def spread_over_seeds(models, train, test, quick):
    """liblinear stops before it converges, so its seed shows: clean, semi-white and white for several."""
    found = {}
    for wavelet in WAVELETS:
        rows = []
        for seed in range(2 if quick else 5):
            model = clone(models[wavelet]).set_params(linearsvc__random_state=seed).fit(*train)
            attacked = [robust_accuracy(model, *test, PUBLISHED[name]) for name in ("semi-white box", "white box")]
            rows.append([model.score(*test), *attacked])
        mean, deviation = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1)
        found[wavelet] = {
            "columns": ["clean", "semi-white box", "white box"],
            "seeds": rows,
            "mean": mean.tolist(),
            "standard_deviation": deviation.tolist(),
        }
        figures = ", ".join(f"{100 * m:.2f} ± {100 * d:.2f}" for m, d in zip(mean, deviation, strict=True))
        print(f"{wavelet:>6}, {len(rows)} seeds of liblinear: clean, semi-white, white = {figures}")
    return found


def tune(image_shape, X, y, content, arguments):
    """The same SVM with and without front end, each tuned by the same scorer on the training images."""
    few = arguments.quick
    fractions = [0.15, 0.4] if few else [0.02, 0.05, 0.1]
    Cs = [0.001, 0.01] if few else [0.0001, 0.001, 0.01, 0.1]
    searches = {}
    for wavelet in ("db5", "haar"):
        pipeline = linear_svm(wavelet_front_end(wavelet, image_shape), random_state=0)
        grid = {
            "waveletsparsifier__n_nonzero_coefs": fractions,
            "waveletsparsifier__level": LEVELS,
            "linearsvc__C": Cs,
        }
        searches[f"{wavelet}, tuned"] = (pipeline, grid)
    n = len(fractions) * len(LEVELS) * len(Cs)
    searches["undefended, tuned"] = (linear_svm(random_state=0), strengths("l2", 1e-6, 1, n))
    searches["undefended, l1, tuned"] = (linear_svm(random_state=0), strengths("l1", 1e-4, 3e-2, n))
    tuned, content["searches"] = {}, {}
    for name, (pipeline, grid) in searches.items():
        print(name, end=":")
        search = robust_search(pipeline, grid, X, y, eps=EPS, image_shape=image_shape, arguments=arguments)
        tuned[name] = search.best_estimator_
        content["searches"][name] = describe_search(search, EPS)
    return tuned


def report_worst_case(models, X, y, image_shape, content, arguments):
    """All models under all attacks, worst case per image, beside the tuned undefended SVM."""
    quick = {"n_restarts": 1, "n_queries": 20, "n_iter": 5} if arguments.quick else {}
    attacks = strong_attacks(image_shape, **quick)
    params = {"attacks": attacks, "n_examples": 0, "checks": False, "verbose": arguments.verbose}
    at_default = [UNDEFENDED, *WAVELETS]
    several = {name: model for name, model in models.items() if name not in at_default}
    report = robustness_report(several, X, y, eps=[0.1] if arguments.quick else [0.05, 0.1, 0.15], **params)
    single = robustness_report({name: models[name] for name in at_default}, X, y, eps=EPS, **params)
    content["worst_case"] = {"n": len(y), "attacks": [attack.describe() for attack in attacks], "models": {}}
    print(f"\nworst case per image over {len(attacks)} attacks, n = {len(y)}, accuracy in %")
    for one in (single, report):
        for name in one.models:
            eps, accuracy, low, high = (values.tolist() for values in one.curve(name))
            each = [one.curve(name, k)[1][1:].tolist() for k in range(len(attacks))]
            content["worst_case"]["models"][name] = {
                "eps": eps,
                "accuracy": accuracy,
                "low": low,
                "high": high,
                "accuracy_under_each_attack": each,
            }
            values = "  ".join(f"{100 * a:.1f} at {e:g}" for e, a in zip(eps, accuracy, strict=True))
            print(f"{name:>24}: {values}")
    content["comparisons"] = {}
    for name in ("db5, tuned", "haar, tuned"):
        for other in ("undefended, tuned", "undefended, l1, tuned"):
            for eps in report.eps:
                difference = report.compare(name, other, eps)
                content["comparisons"][f"{name} - {other} at {eps:g}"] = difference
                print(f"{name} - {other} at eps {eps:g}: {100 * difference[0]:+.1f} points, 95 % interval "
                      f"{100 * difference[1]:+.1f} to {100 * difference[2]:+.1f}")  # fmt: skip


RHOS = [0.01, 0.02, 0.035, 0.05, 0.1, 0.15]
EPSILONS = [0.05, 0.1, 0.15, 0.2, 0.25]


def curve_over_rho(model, train, test, attacks, fractions):
    """Figure 6 (a): retrained at each rho, attacked at eps = 0.1."""
    rows = []
    for fraction in fractions:
        model = clone(model).set_params(waveletsparsifier__n_nonzero_coefs=fraction).fit(*train)
        report = robustness_report(model, *test, eps=EPS, attacks=attacks, n_examples=0, checks=False)
        rows.append({"rho": fraction, **at_eps(model, test, EPS), "worst case": float(report.curve("model")[1][1])})
    return rows


def curve_over_eps(models, X, y, attacks, epsilons):
    """Figure 6 (b): db5 at rho = 2 %, and the undefended SVM."""
    report = robustness_report(models["db5"], X, y, eps=epsilons, attacks=attacks, n_examples=0, checks=False)
    rows = [{"eps": 0.0, **dict.fromkeys([*PUBLISHED, "worst case"], float(report.curve("model")[1][0]))}]
    rows[0][UNDEFENDED] = models[UNDEFENDED].score(X, y)
    for eps, worst in zip(epsilons, report.curve("model")[1][1:], strict=True):
        undefended = robust_accuracy(models[UNDEFENDED], X, y, WhiteBox(eps))
        rows.append({"eps": eps, **at_eps(models["db5"], (X, y), eps), "worst case": worst, UNDEFENDED: undefended})
    return rows


def at_eps(model, test, eps):
    """Accuracy under each published attack by itself, which may rise again with eps."""
    found = {"clean": model.score(*test)}
    for label, attack in PUBLISHED.items():
        found[label] = robust_accuracy(model, *test, clone(attack).set_params(eps=eps))
    return found


if __name__ == "__main__":
    main()
