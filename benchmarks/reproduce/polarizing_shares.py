"""How much of a polarized code perturbations can change: digits against photographs.

    SKROBUST_DATA=DIR python benchmarks/reproduce/polarizing_shares.py       # about 20 minutes on 2 cores
    python benchmarks/reproduce/polarizing_shares.py --quick                 # seconds, images that come with libraries

1. Ambiguous shares (l-infinity) and verdicts for pixel, average, wavelet and learned atoms on MNIST, CIFAR-10 and
   patches of photographs, thresholds chosen on training images for the same eps.
2. CIFAR-10: accuracy under attack, and certified, of logistic regression on each code and on the images, at 2/255 and
   8/255; penalties chosen by certified accuracy on held-out training images.

Writes polarizing_shares.json.
"""

import time

import numpy as np
import torch
from _polarizing import read_arguments, save_parts
from skimage import data
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skrobust import PolarizingCoder
from skrobust.attacks import APGD, PGD, CornerSearch, Square
from skrobust.certificates import certify
from skrobust.datasets import load_cifar10, load_mnist
from skrobust.evaluation import robust_accuracy, wilson_interval

NAME = "polarizing_shares"
ATOMS = {
    "pixel": {},
    "3 x 3 averages": {"dictionary": "average"},
    "Haar, ternary": {"dictionary": "haar", "levels": "ternary"},
    "16 learned 4 x 4 filters": {"dictionary": "learned", "kernel_size": 4, "stride": 2},
    "16 learned zero-mean 4 x 4 filters, ternary": {
        "dictionary": "learned",
        "kernel_size": 4,
        "stride": 2,
        "signed": True,
        "levels": "ternary",
    },
}
RADII = {"digits": (0.05, 0.1, 0.2), "photographs": (2 / 255, 4 / 255, 8 / 255, 0.1)}


def main():
    parts = {"photographs": photographs, "mnist": mnist, "cifar10": cifar10, "cifar10 classifiers": classifiers}
    arguments = read_arguments(__doc__, parts)
    torch.set_num_threads(1)
    head = {"what": __doc__.splitlines()[0], "norm": "linf"}
    for name in arguments.only or (["photographs"] if arguments.quick else parts):
        started = time.perf_counter()
        content = {name: parts[name](arguments)}
        content[name]["seconds"] = round(time.perf_counter() - started)
        save_parts(arguments, NAME, head, content)


def photographs(arguments):
    """Patches of scikit-image's and scikit-learn's photographs, those of one half of the images to fit."""
    images = [image / np.float32(255) for image in natural_images()]
    few = 100 if arguments.quick else 500
    fit, held = (
        np.concatenate([extract_patches_2d(image, (32, 32), max_patches=few, random_state=0) for image in half])
        for half in (images[::2], images[1::2])
    )
    return shares("photographs", fit, held, RADII["photographs"][:1] if arguments.quick else RADII["photographs"])


def natural_images():
    """Colour photographs that come with libraries."""
    pictures = [data.astronaut(), data.cat(), data.coffee(), data.rocket()]
    return [*load_sample_images().images, *pictures]


def mnist(arguments):
    images = load_mnist(split="train", data_home=arguments.data_home, dtype="float32").images
    return shares("mnist", images[:5000], images[5000:10_000], RADII["digits"])


def cifar10(arguments):
    images = load_cifar10(split="train", data_home=arguments.data_home, dtype="float32").images
    return shares("cifar10", images[:2500], images[2500:5000], RADII["photographs"])


def shares(name, fit, held, radii):
    """For each kind of atoms and radius: thresholds fitted for it, share, difference, verdict on held-out images."""
    table = {}
    print(f"\n{name}: {len(fit)} images to fit, {len(held)} to ask")
    for atoms, parameters in ATOMS.items():
        rows = {}
        for eps in radii:
            coder = PolarizingCoder(**parameters, eps=eps, random_state=0).fit(fit)
            share = coder.ambiguous_share(held, eps, clip=(0, 1))
            rows[f"{eps:.4g}"] = {
                "ambiguous": share.overall,
                "difference_of_two_images": share.difference,
                "ratio": share.ratio,
                "verdict": share.verdict,
                "thresholds": coder.thresholds_.ravel().round(4).tolist()[:16],
            }
            print(f"  {atoms:>44}, eps {eps:.4f}: ratio {share.ratio:6.3f}. {share.verdict}", flush=True)
        table[atoms] = rows
    return {"n_fit": len(fit), "n_held_out": len(held), "atoms": table}


def classifiers(arguments):
    """CIFAR-10: accuracy under attack and certified of logistic regression on codes and on pixels."""
    params = {"data_home": arguments.data_home, "dtype": "float32"}
    train, test = (load_cifar10(split=split, **params) for split in ("train", "test"))
    X, y = train.data[:10_000], train.target[:10_000]
    held_X, held_y = train.data[40_000:41_000], train.target[40_000:41_000]
    X_test, y_test = test.data[:500], test.target[:500]
    radii = (2 / 255, 8 / 255)
    models = {
        "undefended": (lambda C: make_pipeline(LogisticRegression(C=C, max_iter=50)), np.geomspace(1e-6, 1e-1, 6)),
    }
    for atoms in ("pixel", "3 x 3 averages", "Haar, ternary", "16 learned 4 x 4 filters"):

        def build(C, atoms=atoms):
            coder = PolarizingCoder(**ATOMS[atoms], eps=radii[0], image_shape=train.image_shape, random_state=0)
            return make_pipeline(coder, LogisticRegression(C=C, max_iter=50))

        models[atoms] = (build, np.geomspace(1e-5, 1e-2, 4))
    result = {"n_train": len(y), "n_test": len(y_test), "models": {}}
    for name, (build, strengths) in models.items():
        fitted = {C: build(C).fit(X, y) for C in strengths.tolist()}
        scores = {C: certify(m, held_X, held_y, radii[0], radius=False) for C, m in fitted.items()}
        chosen = max(scores, key=lambda C: scores[C].certified_accuracy + 1e-3 * scores[C].accuracy)
        model = fitted[chosen]
        row = {"C": chosen, "clean": _figure(model.score(X_test, y_test), len(y_test))}
        for eps in radii:
            attacks = [
                CornerSearch(eps=eps, n_targets=5, n_iter=15),
                PGD(eps=eps, n_iter=20, loss="margin", gradient="worst", random_state=0),
                APGD(eps=eps, n_iter=20, gradient="identity", random_state=0),
                Square(eps=eps, n_iter=200, image_shape=train.image_shape, random_state=0),
            ]
            row[f"{eps:.4g}"] = {
                "attacked": _figure(robust_accuracy(model, X_test, y_test, attacks), len(y_test)),
                "certified": _figure(certify(model, X_test, y_test, eps, radius=False).certified_accuracy, len(y_test)),
                "attacks": [attack.describe() for attack in attacks],
            }
        result["models"][name] = row
        accuracies = ", ".join(
            f"{key}: attacked {100 * row[key]['attacked']['accuracy']:.1f}, "
            f"certified {100 * row[key]['certified']['accuracy']:.1f}"
            for key in row
            if key not in ("C", "clean")
        )
        print(f"  {name}: C {chosen:g}, clean {100 * row['clean']['accuracy']:.1f}; {accuracies}", flush=True)
    return result


def _figure(share, n):
    return {"accuracy": float(share), "ci": list(wilson_interval(round(share * n), n))}


if __name__ == "__main__":
    main()
