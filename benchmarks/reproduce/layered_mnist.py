"""Layered thresholding against layered basis pursuit on MNIST, the experiment of "Adversarial noise attacks of deep
learning architectures" (Romano, Aberdam, Sulam, Elad, JMIV 2020), and what is left of its claim under stronger attacks.

    python benchmarks/reproduce/layered_mnist.py --data-home data --models models    # well over an hour, one core
    python benchmarks/reproduce/layered_mnist.py --quick    # seconds; digits, few atoms: no figures to quote

The paper's architecture: three convolutional layers of 64, 128 and 512 atoms, kernels 6, 6, 4, strides 2, 2, 1, then a
linear layer; batches of 64, SGD with momentum 0.9. L-THR is the forward pass of that network; L-BP takes four FISTA
steps a layer from it, with the same number of parameters. Both begin at the same random atoms with thresholds 0 (kept
>= 0) and see the same batches, for each of three seeds. The paper attacks by FGSM alone. Here PGD through all steps
and images made on the other model stand beside it, on the same images.

Then, on less data and one seed, what the theory would have help: Parseval and incoherence penalties, unit-norm atoms,
more or fewer iterations, in training and in testing alone.

Products of the convolutions are of bfloat16 in training and of float32 in all testing. Training is kept after each
epoch under --models, figures after each attack in the JSON: started again, the script goes on where it was stopped.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import time

import numpy as np
import torch

from skrobust.attacks import APGD, FGSM, PGD, Square, Transfer
from skrobust.datasets import load_digits_images, load_mnist
from skrobust.nn import make_network, train_layered

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _race import RESULTS, machine, write_json

KERNELS, STRIDES, SIDE = (6, 6, 4), (2, 2, 1), 28
NETWORKS = {"L-THR": {"max_iter": 0}, "L-BP": {"max_iter": 4}}
TEST_STEPS = (8, 0, 2, 16)
SCOUTED = {
    "L-THR": {"max_iter": 0},
    "L-BP, 4 steps": {"max_iter": 4},
    "L-BP, 4 steps, Parseval 0.003": {"max_iter": 4, "parseval": 0.003},
    "L-BP, 4 steps, incoherence 10": {"max_iter": 4, "incoherence": 10.0},
    "L-THR, Parseval 0.003": {"max_iter": 0, "parseval": 0.003},
    "L-THR, incoherence 10": {"max_iter": 0, "incoherence": 10.0},
}
OTHERS = {
    "L-BP, 2 steps": {"max_iter": 2},
    "L-BP, 4 steps, unit norm": {"max_iter": 4, "unit_norm": True},
    "L-THR, rate 0.005": {"max_iter": 0, "learning_rate": 0.005, "schedule": None, "n_epochs": 3},
    "L-BP, 4 steps, rate 0.005": {"max_iter": 4, "learning_rate": 0.005, "schedule": None, "n_epochs": 3},
    "L-BP, 8 steps": {"max_iter": 8},
}
FULL = {
    "n_components": [64, 128, 512],
    "n_train": 60000,
    "n_epochs": 2,
    "learning_rate": 0.03,
    "schedule": "cosine",
    "seeds": [0, 1, 2],
    "n_test": 500,
    "fgsm_eps": [0.05, 0.1, 0.15, 0.2, 0.25, 0.3],
    "pgd_eps": [0.05, 0.1, 0.15, 0.2],
    "transfer_eps": [0.1, 0.2],
    "n_iter": 40,
    "transfer_n_iter": 20,
    "stronger": {
        "eps": 0.1,
        "apgd_n_iter": 50,
        "targeted_n_iter": 20,
        "n_targets": 3,
        "n_square": 100,
        "n_queries": 300,
    },
    "scouting": {"n_train": 12000, "n_epochs": 1, "n_test": 200, "eps": [0.1]},
}
QUICK = {
    **FULL,
    "n_components": [4, 6, 8],
    "n_train": 256,
    "n_epochs": 1,
    "seeds": [0, 1],
    "n_test": 20,
    "fgsm_eps": [0.1, 0.2],
    "pgd_eps": [0.1],
    "transfer_eps": [0.1],
    "n_iter": 3,
    "transfer_n_iter": 2,
    "stronger": {"eps": 0.1, "apgd_n_iter": 3, "targeted_n_iter": 2, "n_targets": 2, "n_square": 5, "n_queries": 5},
    "scouting": {"n_train": 128, "n_epochs": 1, "n_test": 10, "eps": [0.1]},
}


def images(quick, data_home):
    """Training and test images of shape (n, 28, 28, 1) in [0, 1] with labels; for a quick run enlarged digits."""
    if quick:
        X, y = load_digits_images(return_X_y=True)
        X = np.pad(np.kron(X.reshape(-1, 8, 8), np.ones((1, 3, 3))), ((0, 0), (2, 2), (2, 2)))
        X, y = X[..., None].astype(np.float32), y.astype(int)
        return X[:1000], y[:1000], X[1000:], y[1000:]
    (X, y), (X_test, y_test) = (load_mnist(data_home, split=s, return_X_y=True) for s in ("train", "test"))
    shape = (-1, SIDE, SIDE, 1)
    return X.reshape(shape).astype(np.float32), y, X_test.reshape(shape).astype(np.float32), y_test


def untrained(n_components, seed, **settings):
    """The pursuit where learning begins: torch's own initial weights of convolutions, thresholds 0."""
    torch.manual_seed(seed)
    options = {"n_components": n_components, **settings}
    return make_network("stability_mnist", n_classes=10, image_shape=(SIDE, SIDE), **options).pursuit


def trained(folder, name, X, y, size, seed, *, max_iter, unit_norm=False, **penalties):
    """A classifier in evaluation mode, trained or read from `folder`, and CPU seconds if all of it was done now."""
    pursuit = untrained(size["n_components"], seed, max_iter=max_iter, unit_norm=unit_norm)
    path = folder / f"layered_{name}_{len(X)}_{size['n_epochs']}_{seed}.pt".replace(" ", "_").replace(",", "")
    begun, start = path.exists(), time.process_time()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        classifier = train_layered(
            pursuit,
            X,
            y,
            n_epochs=size["n_epochs"],
            learning_rate=size["learning_rate"],
            schedule=size["schedule"],
            random_state=seed,
            checkpoint=path,
            **penalties,
        )
    seconds = None if begun else time.process_time() - start
    classifier.pursuit.settle()  # the norms once more, in full precision
    return classifier.requires_grad_(False), seconds


@torch.no_grad()
def right(classifier, X, y):
    """Which images get their label."""
    parts = [classifier(torch.as_tensor(X[i : i + 250])).argmax(1).numpy() for i in range(0, len(X), 250)]
    return np.concatenate(parts) == y


@torch.no_grad()
def about(classifier, X):
    """Shares of nonzero codes, thresholds and squared norms of the layers."""
    pursuit = classifier.pursuit
    return {
        "nonzero_share": [float((codes > 0).float().mean()) for codes in pursuit(torch.as_tensor(X[:200]))],
        "mean_threshold": [float(threshold.mean()) for threshold in pursuit.thresholds],
        "squared_norm": pursuit.norms.tolist(),
    }


def pgd(eps, loss, n_iter, seed):
    return PGD(eps=eps, n_iter=n_iter, loss=loss, random_state=seed, batch_size=100)


def under_fgsm(classifier, X, y, eps):
    return right(classifier, FGSM(eps=eps, batch_size=100).perturb(classifier, X, y), y)


def under_pgd(classifier, X, y, eps, size, seed):
    """Images that stand after FGSM and PGD on both losses, each tried on those that still stand; share after each."""
    standing = under_fgsm(classifier, X, y, eps)
    after = {"FGSM": float(standing.mean())}
    for loss in ("cross_entropy", "margin"):
        left = np.flatnonzero(standing)
        if len(left):
            X_adv = pgd(eps, loss, size["n_iter"], seed).perturb(classifier, X[left], y[left])
            standing[left] = right(classifier, X_adv, y[left])
        after[f"PGD, {loss}"] = float(standing.mean())
    return standing, after


class Results:
    """What has been found so far, on disk after each figure."""

    def __init__(self, path, conditions):
        self.path, self.conditions, self.found = path, conditions, {}
        if path.exists():
            earlier = json.loads(path.read_text(encoding="utf8"))
            found = earlier.pop("results")
            if earlier == json.loads(json.dumps(conditions)):
                self.found = found

    def get(self, keys, compute):
        """The figure under `keys`, computed if it is not there."""
        node = self.found
        for key in keys[:-1]:
            node = node.setdefault(str(key), {})
        if str(keys[-1]) not in node:
            node[str(keys[-1])] = compute()
            write_json(self.path, {**self.conditions, "results": self.found})
            print(f"{' / '.join(map(str, keys))}: {json.dumps(node[str(keys[-1])])[:150]}", flush=True)
        return node[str(keys[-1])]


def full_comparison(results, folder, data, size):
    """Both networks, seed by seed: clean, FGSM, PGD, transfer in both directions."""
    X, y, X_test, y_test = data
    X_few, y_few = X_test[: size["n_test"]], y_test[: size["n_test"]]
    for seed in size["seeds"]:
        networks = {}
        for name, settings in NETWORKS.items():
            networks[name], seconds = trained(
                folder, name, X[: size["n_train"]], y[: size["n_train"]], size, seed, **settings
            )
            prefix = "comparison", seed, name
            results.get((*prefix, "training"), lambda n=networks[name], s=seconds: {"cpu_s": s, "history": n.history})
            results.get((*prefix, "clean"), lambda n=networks[name]: float(right(n, X_test, y_test).mean()))
            results.get((*prefix, "clean_on_attacked"), lambda n=networks[name]: float(right(n, X_few, y_few).mean()))
            results.get((*prefix, "network"), lambda n=networks[name]: about(n, X_few))
            for eps in size["fgsm_eps"]:
                results.get(
                    (*prefix, "fgsm", eps), lambda n=networks[name], e=eps: float(under_fgsm(n, X_few, y_few, e).mean())
                )
        for eps in size["pgd_eps"]:
            for name, network in networks.items():
                results.get(
                    ("comparison", seed, name, "pgd", eps),
                    lambda n=network, e=eps, s=seed: _summary(*under_pgd(n, X_few, y_few, e, size, s)),
                )
        for eps in size["transfer_eps"]:
            for name, network in networks.items():
                (source,) = (n for other, n in networks.items() if other != name)
                results.get(
                    ("comparison", seed, name, "transfer", eps),
                    lambda n=network, o=source, e=eps, s=seed: _transferred(n, o, X_few, y_few, e, size, s),
                )


def _summary(standing, after):
    return {"after": after, "standing": np.flatnonzero(standing).tolist()}


def _transferred(network, source, X, y, eps, size, seed):
    attack = Transfer(pgd(eps, "cross_entropy", size["transfer_n_iter"], seed), source)
    return float(right(network, attack.perturb(network, X, y), y).mean())


def stronger(results, folder, data, size):
    """Both networks of the first seed: APGD on what PGD left, and Square alone, which asks for no gradient."""
    X, y, X_test, y_test = data
    seed, plan = size["seeds"][0], size["stronger"]
    X_few, y_few = X_test[: size["n_test"]], y_test[: size["n_test"]]
    for name, settings in NETWORKS.items():
        network, _ = trained(folder, name, X[: size["n_train"]], y[: size["n_train"]], size, seed, **settings)
        left = results.found["comparison"][str(seed)][name]["pgd"][str(plan["eps"])]["standing"]
        common = {"eps": plan["eps"], "random_state": seed + 1, "batch_size": 100}
        attacks = {
            "APGD, cross-entropy": APGD(n_iter=plan["apgd_n_iter"], **common),
            "APGD, targeted": APGD(
                n_iter=plan["targeted_n_iter"], loss="targeted_dlr", n_targets=plan["n_targets"], **common
            ),
        }
        prefix = "stronger", name
        for label, attack in attacks.items():
            found = results.get((*prefix, label), lambda n=network, a=attack, i=left: _left(n, a, X_few, y_few, i))
            left = found["standing"]
        square = Square(n_iter=plan["n_queries"], image_shape=(SIDE, SIDE, 1), **common)
        results.get(
            (*prefix, "Square alone"),
            lambda n=network, a=square: _left(n, a, X_few, y_few, range(plan["n_square"]), plan["n_square"]),
        )


def _left(network, attack, X, y, index, n=None):
    """The images of `index` that stand after an attack, and their share of `n` images or of all."""
    index = np.array(index, dtype=int)
    standing = index[right(network, attack.perturb(network, X[index], y[index]), y[index])] if len(index) else index
    return {"accuracy": len(standing) / (n or len(X)), "standing": standing.tolist()}


def scouting(results, folder, data, size, networks):
    """One seed, less data: what penalties, norms, iterations and recipes do."""
    X, y, X_test, y_test = data
    few = {**size, **size["scouting"]}
    X, y, X_few, y_few = X[: few["n_train"]], y[: few["n_train"]], X_test[: few["n_test"]], y_test[: few["n_test"]]
    for name, settings in networks.items():
        prefix = "scouting", name
        if "attacked" in results.found.get("scouting", {}).get(name, {}):
            continue
        recipe = {**few, **{word: value for word, value in settings.items() if word in few}}
        settings = {word: value for word, value in settings.items() if word not in few}
        network, _ = trained(folder, f"scout_{name}", X, y, recipe, few["seeds"][0], **settings)
        results.get((*prefix, "clean"), lambda n=network: float(right(n, X_test[:2000], y_test[:2000]).mean()))
        results.get((*prefix, "network"), lambda n=network: about(n, X_few))
        results.get((*prefix, "attacked"), lambda n=network: _attacked(n, X_few, y_few, few))


def _attacked(network, X, y, few):
    return {str(eps): under_pgd(network, X, y, eps, few, few["seeds"][0])[1] for eps in few["eps"]}


def more_iterations(results, folder, data, size):
    """The L-BP of the first seed with other numbers of steps than it was trained with."""
    X, y, X_test, y_test = data
    seed, few = size["seeds"][0], {**size, **size["scouting"]}
    network, _ = trained(folder, "L-BP", X[: size["n_train"]], y[: size["n_train"]], size, seed, **NETWORKS["L-BP"])
    X_few, y_few = X_test[: few["n_test"]], y_test[: few["n_test"]]
    for steps in TEST_STEPS:
        network.pursuit.max_iter = steps
        prefix = "steps in testing alone", steps
        results.get((*prefix, "clean"), lambda: float(right(network, X_test[:1000], y_test[:1000]).mean()))
        results.get((*prefix, "attacked"), lambda: _attacked(network, X_few, y_few, few))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home", default=None)
    parser.add_argument("--models", default="models", help="folder that keeps the trained networks")
    parser.add_argument("--quick", action="store_true", help="enlarged digits, few atoms, few steps")
    parser.add_argument("--output", default=None, help="folder of the JSON and the picture")
    args = parser.parse_args()
    torch.set_num_threads(1)
    size = QUICK if args.quick else FULL
    output = pathlib.Path(args.output or RESULTS)
    stem = "layered_mnist_quick" if args.quick else "layered_mnist"
    conditions = {
        "machine": machine("torch", "skorch"),
        "settings": size,
        "architecture": {"kernels": KERNELS, "strides": STRIDES, "padding": "valid", "batch_size": 64, "momentum": 0.9},
        "norm": "linf",
        "threat_model": "white box; 'transfer': made on the other network of the same seed",
        "attacks": "FGSM; PGD from a random start by steps of 2.5 eps / n_iter, on cross-entropy, then margin",
        "training_precision": "products of bfloat16, sums of float32 (torch.autocast); testing: float32",
    }
    results = Results(output / f"{stem}.json", conditions)
    folder = pathlib.Path(args.models)
    data = images(args.quick, args.data_home)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run(results, folder, data, size)
    finally:  # an interrupted run leaves no empty folder
        with contextlib.suppress(OSError):
            folder.rmdir()
    draw_results(output / f"{stem}.json")


def run(results, folder, data, size):
    full_comparison(results, folder, data, size)
    scouting(results, folder, data, size, SCOUTED)
    more_iterations(results, folder, data, size)
    scouting(results, folder, data, size, OTHERS)
    stronger(results, folder, data, size)


def draw_results(path):
    """The picture beside the JSON."""
    import matplotlib as mpl

    mpl.use("Agg")
    from _layered_figure import draw

    figure = draw(json.loads(path.read_text(encoding="utf8")))
    figure.savefig(path.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
