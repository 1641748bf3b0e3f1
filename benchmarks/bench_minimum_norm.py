"""Minimum-norm attacks beside adv-lib's at equal numbers of passes: median distance, success, CPU seconds.

    pip install --no-deps adv-lib
    python benchmarks/bench_minimum_norm.py --data-home DIR             # needs MNIST; about half an hour
    python benchmarks/bench_minimum_norm.py --data-home DIR --only CNN --norms l0 --passes 100      # one piece
    python benchmarks/bench_minimum_norm.py --page docs/results/minimum_norm.md       # the page from the JSON

Both attack the same correctly classified test images of two networks. A pass is one forward and one backward pass of
all images. Distances are measured here, in double precision; an image that the network still classifies correctly
counts as infinitely far. One thread. Each setting is merged into results/bench_minimum_norm.json when it is done.
"""

import argparse
import json
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
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}


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
    ours = {"FMN": attacks.FMN(norm=norm, n_iter=n_passes)}
    other = {"FMN": lambda net, x, y: theirs.fmn(net, x, y, norm=order, steps=n_passes)}
    if norm == "l0":
        ours["SigmaZero"] = attacks.SigmaZero(n_iter=n_passes)
        other["sigma-zero"] = lambda net, x, y: theirs.sigma_zero(net, x, y, num_steps=n_passes)
    else:
        ours["PDPGD"] = attacks.PDPGD(norm=norm, n_iter=n_passes)
        other["PDPGD"] = lambda net, x, y: theirs.pdpgd(net, x, y, norm=order, num_steps=n_passes)
        # Each step takes a pass forward and one forward and backward, for each of nine other classes.
        ours["FAB"] = attacks.FAB(np.inf, norm=norm, n_iter=max(1, n_passes // 14))
    if norm == "l2":
        ours["DDN"] = attacks.DDN(n_iter=n_passes)
        other["DDN"] = lambda net, x, y: theirs.ddn(net, x, y, steps=n_passes)
        other["PDGD"] = lambda net, x, y: theirs.pdgd(net, x, y, num_steps=n_passes)
    if norm in ("l1", "l2"):
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-home", help="folder with MNIST; default: SKROBUST_DATA")
    parser.add_argument("--passes", type=int, nargs="*", default=PASSES)
    parser.add_argument("--only", nargs="*", default=("MLP", "CNN"), choices=("MLP", "CNN"))
    parser.add_argument("--norms", nargs="*", default=tuple(ORDERS), choices=tuple(ORDERS))
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "bench_minimum_norm.json")
    parser.add_argument("--note", default="", help="sentence for the page, such as what else the machine did")
    parser.add_argument("--page", type=pathlib.Path, help="write this page from the output of earlier calls, and end")
    args = parser.parse_args()
    if args.page is not None:
        args.page.write_text(page(json.loads(args.output.read_text(encoding="utf8"))), encoding="utf8")
        return
    content = {"what": __doc__.splitlines()[0], "machine": machine("torch", "adv-lib"), "seed": SEED}
    content |= {"n_train": N_TRAIN, "n_images": N_IMAGES, "note": args.note, "results": {}}
    if args.output.exists():
        earlier = json.loads(args.output.read_text(encoding="utf8"))
        content["results"] = earlier["results"]
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    parts = [load_mnist(args.data_home, split=split, return_X_y=True) for split in ("train", "test")]
    (X, y), (X_test, y_test) = [
        (torch.tensor(X, dtype=torch.float32).reshape(-1, 1, 28, 28), torch.tensor(np.asarray(y, dtype=np.int64)))
        for X, y in parts
    ]
    for name, network in networks().items():
        train(network, X[:N_TRAIN], y[:N_TRAIN])
        if name not in args.only:
            continue
        known = network(X_test).argmax(1) == y_test
        x, labels = X_test[known][:N_IMAGES], y_test[known][:N_IMAGES]
        for norm in args.norms:
            for n_passes in args.passes:
                row = {}
                for attack_name, attack in contenders(norm, n_passes).items():
                    attack(network, x[:2], labels[:2])
                    row[attack_name] = figures = measure(network, x, labels, norm, attack)
                    print(name, norm, n_passes, attack_name, figures, flush=True)
                content["results"][f"{name}, {norm}, {n_passes} passes"] = row
                write_json(args.output, content)


def best(row, side):
    """Name and figures of the attack of least median distance of one side; of equal ones the fastest."""
    own = {name.split(": ")[1]: value for name, value in row.items() if name.startswith(side)}
    return min(own.items(), key=lambda item: (item[1]["median"], item[1]["cpu_seconds"]))


def page(content):
    """The result page, in Markdown."""
    lines, distances, seconds = [], [], []
    for network in ("MLP", "CNN"):
        for norm in ORDERS:
            for n_passes in PASSES:
                setting = f"{network}, {norm}, {n_passes} passes"
                if setting not in content["results"]:
                    continue
                row = content["results"][setting]
                (our, ours), (their, theirs_) = best(row, "ours"), best(row, "adv-lib")
                distances.append(ours["median"] / theirs_["median"])
                seconds.append(ours["cpu_seconds"] / theirs_["cpu_seconds"])
                cells = [setting]
                for name, figures in ((our, ours), (their, theirs_)):
                    cells += [name, f"{figures['median']:.4f}", f"{figures['cpu_seconds']:.2f}"]
                lines.append(f"| {' | '.join(cells)} | {distances[-1]:.3f} | {seconds[-1]:.2f} |")
    distances, seconds = np.array(distances), np.array(seconds)
    machine_ = content["machine"]
    failures = sorted(
        {
            f"{name} ({setting}: {figures['success']:.0%})"
            for setting, row in content["results"].items()
            for name, figures in row.items()
            if figures["success"] < 1
        }
    )
    return PAGE.format(
        n=len(distances),
        distance=f"{np.median(distances):.3f} (from {distances.min():.3f} to {distances.max():.3f})",
        n_near=int((distances <= 1.01).sum()),
        time=f"{np.median(seconds):.2f} (from {seconds.min():.2f} to {seconds.max():.2f})",
        n_fast=int((seconds <= 1).sum()),
        table="\n".join(lines),
        failures="\n".join(f"- {line}" for line in failures) or "None.",
        machine=", ".join(f"{key} {value}" for key, value in machine_.items()),
        **{key: content[key] for key in ("n_images", "n_train", "seed", "note")},
    )


PAGE = """# Minimum-norm attacks beside adv-lib

```
pip install --no-deps adv-lib
python benchmarks/bench_minimum_norm.py --data-home DIR
python benchmarks/bench_minimum_norm.py --page docs/results/minimum_norm.md
```

**At equal numbers of passes, our nearest attack has {distance} times the median distance of adv-lib's nearest, in the
median over {n} settings. It is within 1 % or nearer in {n_near} of them. It takes {time} times the CPU time, and no
longer than adv-lib's in {n_fast}.**

The same {n_images} correctly classified MNIST test images and two networks trained on {n_train} images: an MLP with
200 hidden units, and a CNN with two convolutions. Seed {seed}, one thread; {machine}.
{note}

A pass is one forward and one backward pass of all images. The table shows the attack of least median distance on each
side. An image that is still classified correctly counts as infinitely far. Distances are measured in double precision.
In l0 they are numbers of pixels. Ours are `FMN`, `DDN`, `PDPGD`, `SigmaZero` and `FAB`; theirs FMN, DDN, PDPGD, PDGD,
ALMA and sigma-zero, where they have the norm, with their defaults.

| network, norm, passes | ours | median | CPU s | adv-lib | median | CPU s | distance ratio | time ratio |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{table}

Attacks that did not break every image:

{failures}

- Iterations run in the precision of the network. Each success is measured again in double precision, and lies exactly
  in the box.
- `FMN` overshoots the linearised boundary until it has crossed it. Without that, as published, the iterates of
  piecewise linear networks approach the boundary from inside, and many never cross it.
- `FAB` tries nine classes. One of its steps counts as 14 passes.
"""


if __name__ == "__main__":
    main()
