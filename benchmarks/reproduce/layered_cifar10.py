"""Feed-forward networks, layered basis pursuit and deep pursuit on CIFAR-10, under FGSM and PGD.

    python benchmarks/reproduce/layered_cifar10.py --data-home data --models models            # reduced, about 25 min
    python benchmarks/reproduce/layered_cifar10.py --quick                                     # random images, 1 min
    python benchmarks/reproduce/layered_cifar10.py --data-home data --models models --full     # for a GPU

Two experiments. "Unfolded": the network of "Adversarial noise attacks of deep learning architectures" (Romano, Aberdam,
Sulam, Elad, JMIV 2020): three layers of 32, 64 and 128 atoms, 4x4, stride 2, whose codes are found by layered
thresholding (a CNN) or layered basis pursuit, then a classifier of three convolutions and a linear layer, the same for
both. "Blocks": that of "Architectural adversarial robustness: the case for deep pursuit" (Cazenavette, Murdock, Lucey,
CVPR 2021): three blocks of units of two 3x3 convolutions of m, 2m and 4m atoms, batch norm with the statistics of the
feed-forward pass, mean over 2x2 regions, a linear layer; without and with residual connections; feed-forward, layered
basis pursuit and deep pursuit over 1 to 10 iterations with learned steps.

The papers attack by FGSM alone. PGD through all iterations stands beside it, on images that FGSM left standing: first
on cross-entropy, then on margins. Nothing is trained on attacked images; all networks see the same images.
The form without --full is reduced: fewer images, epochs, atoms and iterations than the papers had. Its networks are far
from converged, and the page says so.

Writes layered_cifar10.json after each figure (with --full layered_cifar10_full.json), the picture and the page; started
again, it goes on where it was stopped.
"""

import argparse
import json
import pathlib
import sys
import time

import numpy as np
import torch

from skrobust import TorchClassifier
from skrobust.attacks import FGSM, PGD
from skrobust.datasets import load_dataset
from skrobust.nn import make_network

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _layered_page import draw, write_page
from _race import RESULTS, machine
from layered_mnist import Results

SHAPE = (32, 32, 3)
MEAN, SPREAD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)  # of the training images
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "results" / "layered_cifar10.md"
UNFOLDED = {"L-THR": "thresholding", "L-BP": "basis"}
BLOCKS = {
    "L-BP": ("basis", None),
    "DP": ("deep", None),
    "L-BP-res": ("basis", "residual"),
    "DP-res": ("deep", "residual"),
}
REDUCED = {
    "n_train": 2500,
    "n_test_clean": 2000,
    "n_test": 300,
    "n_test_pgd": 100,
    "seeds": [0],
    "batch_size": 50,
    "augment": False,
    "learning_rate": 0.05,
    "weight_decay": 5e-4,
    "fgsm_eps": [1, 2, 4, 8],  # of 255
    "pgd_eps": [2, 4],
    "n_iter": 40,
    "unfolded": {"n_epochs": 8, "n_components": [32, 64, 128], "head": [128, 128, 128], "max_iter": 4},
    "blocks": {"n_epochs": 6, "width": 4, "depth": 1, "iterations": [1, 4]},
}
FULL = {
    **REDUCED,
    "n_train": 50000,
    "n_test_clean": 10000,
    "n_test": 10000,
    "n_test_pgd": 1000,
    "seeds": [0, 1, 2],
    "batch_size": 128,
    "augment": True,
    "pgd_eps": [1, 2, 4, 8],
    "unfolded": {"n_epochs": 100, "n_components": [32, 64, 128], "head": [256, 512, 512], "max_iter": 6},
    "blocks": {"n_epochs": 100, "width": 8, "depth": 1, "iterations": list(range(1, 11))},
}
QUICK = {
    **REDUCED,
    "n_train": 60,
    "n_test_clean": 20,
    "n_test": 20,
    "n_test_pgd": 10,
    "batch_size": 20,
    "augment": True,
    "fgsm_eps": [4],
    "pgd_eps": [4],
    "n_iter": 2,
    "unfolded": {"n_epochs": 1, "n_components": [4, 4, 6], "head": [6, 6, 6], "max_iter": 2},
    "blocks": {"n_epochs": 1, "width": 2, "depth": 1, "iterations": [1, 2]},
}


def images(quick, data_home):
    """Training and test images of shape (n, 32, 32, 3) in [0, 1] with labels; random ones for a quick run."""
    if quick:
        rng = np.random.default_rng(0)
        return [part for n in (100, 40) for part in (rng.random((n, *SHAPE), dtype=np.float32), np.arange(n) % 10)]
    parts = []
    for split in ("train", "test"):
        X, y = load_dataset("cifar10", data_home=data_home, split=split, return_X_y=True)
        parts += [X.reshape(-1, *SHAPE).astype(np.float32), y]
    return parts


def unfolded_network(settings, pursuit, seed):
    """Three layers that are pursued, three convolutions and a linear layer that are not."""
    torch.manual_seed(seed)
    steps = 0 if pursuit == "thresholding" else settings["max_iter"]
    options = {"n_components": settings["n_components"], "head": settings["head"], "max_iter": steps}
    return make_network("stability_cifar", n_classes=10, image_shape=SHAPE, **options)


def blocks_network(settings, pursuit, skip, max_iter, seed):
    """Three blocks of `depth` units of two layers; each block but the first begins with stride 2."""
    torch.manual_seed(seed)
    options = {"width": settings["width"], "depth": settings["depth"], "pursuit": pursuit, "max_iter": max_iter}
    return make_network(f"deep_pursuit_{skip or 'chain'}", n_classes=10, image_shape=SHAPE, **options)


def trained(path, network, data, size, n_epochs, seed, device):
    """The network trained, resumed from `path` or read from it; seconds and accuracy in training."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = TorchClassifier(
        network,
        max_epochs=n_epochs,
        batch_size=size["batch_size"],
        optimizer="sgd",
        lr=size["learning_rate"],
        weight_decay=size["weight_decay"],
        schedule="cosine",
        max_gradient_norm=5.0,
        augment="mirror_shift" if size["augment"] else None,
        normalize=(MEAN, SPREAD),
        checkpoint=path,
        device=device,
        random_state=seed,
    )
    begin = time.perf_counter()
    model.fit(*(part[: size["n_train"]] for part in data))
    accuracies = [entry["accuracy"] for entry in model.history_]
    return model.network_, {"accuracy": accuracies, "seconds": time.perf_counter() - begin}


@torch.no_grad()
def right(network, X, y):
    """Which images get their label."""
    device = network.mean.device
    parts = [network(torch.as_tensor(X[i : i + 200], device=device)).argmax(1).cpu() for i in range(0, len(X), 200)]
    return torch.cat(parts).numpy() == y


def attacked(network, X, y, size, seed):
    """Share of images that get their label under FGSM, and under PGD on top of it, for each radius."""
    common = {"device": network.mean.device, "batch_size": 200}
    found = {"clean": float(right(network, X, y).mean()), "FGSM": {}, "PGD": {}}
    few = size["n_test_pgd"]
    for eps in sorted({*size["fgsm_eps"], *size["pgd_eps"]}):
        standing = right(network, FGSM(eps=eps / 255, **common).perturb(network, X, y), y)
        found["FGSM"][str(eps)] = float(standing.mean())
        if eps not in size["pgd_eps"]:
            continue
        standing = standing[:few].copy()
        after = {"FGSM": float(standing.mean())}
        for loss in ("cross_entropy", "margin"):
            left = np.flatnonzero(standing)
            if len(left):
                attack = PGD(eps=eps / 255, n_iter=size["n_iter"], loss=loss, random_state=seed, **common)
                standing[left] = right(network, attack.perturb(network, X[left], y[left]), y[left])
            after[f"PGD, {loss}"] = float(standing.mean())
        found["PGD"][str(eps)] = after
    return found


@torch.no_grad()
def about(network, X):
    """Learned steps, thresholds and shares of nonzero codes."""
    pursuit = network.network.pursuit
    codes = pursuit((torch.as_tensor(X[:100], device=network.mean.device) - network.mean) / network.std)
    return {
        "nonzero_share": [float((w > 0).float().mean()) for w in codes],
        "betas": pursuit.betas.tolist() if pursuit.learn_steps else None,
        "mean_threshold": [float(threshold.mean()) for threshold in pursuit.thresholds],
    }


def networks(size):
    """(experiment, name, iterations, how to make it) of every network; a feed-forward one has no iterations."""
    unfolded, blocks = size["unfolded"], size["blocks"]
    for name, pursuit in UNFOLDED.items():
        steps = 0 if pursuit == "thresholding" else unfolded["max_iter"]
        yield "unfolded", name, steps, lambda seed, p=pursuit: unfolded_network(unfolded, p, seed)
    for name, skip in (("L-THR", None), ("L-THR-res", "residual")):
        yield "blocks", name, 0, lambda seed, s=skip: blocks_network(blocks, "thresholding", s, 0, seed)
    for steps in reversed(blocks["iterations"]):
        for name, (pursuit, skip) in BLOCKS.items():
            yield (
                "blocks",
                name,
                steps,
                lambda seed, p=pursuit, s=skip, n=steps: blocks_network(blocks, p, s, n, seed),
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home", default=None)
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path("models"), help="keeps trained networks")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--quick", action="store_true", help="random images and tiny networks: only shows that it runs")
    form.add_argument("--full", action="store_true", help="the papers' sizes; hours of a GPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS, help="folder of the JSON and the picture")
    parser.add_argument("--page", type=pathlib.Path, default=None)
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)
    label, size = ("quick", QUICK) if args.quick else ("full", FULL) if args.full else ("reduced", REDUCED)
    stem = "layered_cifar10" if label == "reduced" else f"layered_cifar10_{label}"
    conditions = {
        "machine": machine("torch"),
        "device": torch.cuda.get_device_name() if args.device.startswith("cuda") else "one core",
        "form": label,
        "settings": size,
        "norm": "linf",
        "threat_model": "white box",
        "attacks": "FGSM; on what it leaves, PGD of steps of 2.5 eps / n_iter from one random start, on cross-entropy, "
        "then on margins",
    }
    results = Results(args.output / f"{stem}.json", conditions)
    X, y, X_test, y_test = images(args.quick, args.data_home)
    many, few = ((X_test[: size[n]], y_test[: size[n]]) for n in ("n_test_clean", "n_test"))
    for seed in size["seeds"]:
        for experiment, name, steps, make in networks(size):
            keys = experiment, seed, f"{name}, {steps}"
            if "attacked" in results.found.get(experiment, {}).get(str(seed), {}).get(keys[-1], {}):
                continue
            path = args.models / f"cifar10_{label}_{experiment}_{name}_{steps}_{seed}.pt"
            network, training = trained(
                path, make(seed), (X, y), size, size[experiment]["n_epochs"], seed, torch.device(args.device)
            )
            results.get((*keys, "training"), lambda training=training: training)
            results.get((*keys, "network"), lambda made=network: about(made, X_test))
            results.get((*keys, "clean"), lambda made=network: float(right(made, *many).mean()))
            results.get((*keys, "attacked"), lambda made=network, s=seed: attacked(made, *few, size, s))
    content = json.loads((args.output / f"{stem}.json").read_text(encoding="utf8"))
    draw(content, args.output / f"{stem}.png")
    if args.page is not None or label == "reduced":
        write_page(content, args.page or PAGE, f"{stem}.png")


if __name__ == "__main__":
    main()
