"""Minimum-norm attacks beside adv-lib's at equal numbers of passes: median distance, success, CPU seconds.

    pip install --no-deps adv-lib
    python benchmarks/bench_minimum_norm.py --data-home DIR     # needs MNIST; about half an hour

Both attack the same correctly classified test images of two networks. A pass is one forward and one backward pass of
all images. Distances are measured here, in double precision; an image that the network still classifies correctly
counts as infinitely far. One thread.
"""

import argparse
import pathlib
import sys
import time
import types

import numpy as np
import torch
from _race import RESULTS, machine, write_json

from skrobust import attacks
from skrobust.datasets import load_mnist

# adv-lib imports these for a distance and a logger that are not used here; their packages do not fit each torch.
for unused, name in (("adv_lib.distances.lpips", "LPIPS"), ("adv_lib.utils.visdom_logger", "VisdomLogger")):
    sys.modules[unused] = types.SimpleNamespace(**{name: object})
from adv_lib import attacks as theirs  # noqa: E402

SEED, N_TRAIN, N_IMAGES, PASSES = 0, 10000, 100, (100, 500, 1000)
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


def networks():
    """Untrained networks for images of shape (n, 1, 28, 28)."""
    nn = torch.nn
    return {
        "MLP": nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10)),
        "CNN": nn.Sequential(
            *(nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(800, 10)),
        ),
    }


def train(network, X, y):
    """Adam on the cross-entropy, five passes over the images."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(5):
        for batch in torch.randperm(len(X)).split(100):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(X[batch]), y[batch]).backward()
            optimizer.step()
    return network.eval().requires_grad_(False)


def contenders(norm, n_passes):
    """Attacks of `norm` as functions of network, images and labels; each takes about `n_passes` passes."""
    order = float(ORDERS[norm])
    ours = {
        "FMN": attacks.FMN(norm=norm, n_iter=n_passes),
        "PDPGD": attacks.PDPGD(norm=norm, n_iter=n_passes),
        # Each step takes a pass forward and one forward and backward, for each of nine other classes.
        "FAB": attacks.FAB(np.inf, norm=norm, n_iter=max(1, n_passes // 14)),
    }
    other = {
        "FMN": lambda net, x, y: theirs.fmn(net, x, y, norm=order, steps=n_passes),
        "PDPGD": lambda net, x, y: theirs.pdpgd(net, x, y, norm=order, num_steps=n_passes),
    }
    if norm == "l2":
        ours["DDN"] = attacks.DDN(n_iter=n_passes)
        other["DDN"] = lambda net, x, y: theirs.ddn(net, x, y, steps=n_passes)
        other["PDGD"] = lambda net, x, y: theirs.pdgd(net, x, y, num_steps=n_passes)
    if norm != "linf":
        other["ALMA"] = lambda net, x, y: theirs.alma(net, x, y, distance=norm, num_steps=n_passes)
    ours = {f"ours: {name}": attack.perturb for name, attack in ours.items()}
    return ours | {f"adv-lib: {name}": attack for name, attack in other.items()}


def measure(network, x, y, norm, attack):
    """Median distance, success and CPU seconds of one attack."""
    torch.manual_seed(SEED)
    started = time.process_time()
    attacked = attack(network, x, y).detach()
    seconds = time.process_time() - started
    distance = (attacked.double() - x.double()).flatten(1).norm(p=ORDERS[norm], dim=1)
    success = network(attacked).argmax(1) != y
    inside = bool(((attacked >= 0) & (attacked <= 1)).all())
    median = float(torch.where(success, distance, torch.inf).quantile(0.5, interpolation="lower"))
    return {"median": median, "success": float(success.double().mean()), "cpu_seconds": seconds, "in_box": inside}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home", required=True, help="folder with MNIST")
    parser.add_argument("--passes", type=int, nargs="*", default=PASSES)
    parser.add_argument("--only", nargs="*", default=("MLP", "CNN"), choices=("MLP", "CNN"))
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "bench_minimum_norm.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    parts = [load_mnist(args.data_home, split=split, return_X_y=True) for split in ("train", "test")]
    (X, y), (X_test, y_test) = [
        (torch.tensor(X, dtype=torch.float32).reshape(-1, 1, 28, 28), torch.tensor(np.asarray(y, dtype=np.int64)))
        for X, y in parts
    ]
    results = {}
    for name, network in networks().items():
        train(network, X[:N_TRAIN], y[:N_TRAIN])
        if name not in args.only:
            continue
        known = network(X_test).argmax(1) == y_test
        x, labels = X_test[known][:N_IMAGES], y_test[known][:N_IMAGES]
        for norm in ORDERS:
            for n_passes in args.passes:
                row = results.setdefault(f"{name}, {norm}, {n_passes} passes", {})
                for attack_name, attack in contenders(norm, n_passes).items():
                    row[attack_name] = figures = measure(network, x, labels, norm, attack)
                    print(name, norm, n_passes, attack_name, figures, flush=True)
    content = {"what": __doc__.splitlines()[0], "machine": machine("torch", "adv-lib"), "seed": SEED}
    write_json(args.output, content | {"n_train": N_TRAIN, "n_images": N_IMAGES, "results": results})
    print(table(results))


def table(results):
    """The best attack of both sides in each setting, as a table in Markdown."""
    lines = ["| network, norm, passes | ours | median | CPU s | adv-lib | median | CPU s | ours / adv-lib |"]
    lines.append("| --- " * 8 + "|")
    for setting, row in results.items():
        cells, medians = [], []
        for side in ("ours", "adv-lib"):
            median, name = min((value["median"], name) for name, value in row.items() if name.startswith(side))
            medians.append(median)
            cells += [name.split(": ")[1], f"{median:.4f}", f"{row[name]['cpu_seconds']:.1f}"]
        lines.append(f"| {setting} | {' | '.join(cells)} | {medians[0] / medians[1]:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
