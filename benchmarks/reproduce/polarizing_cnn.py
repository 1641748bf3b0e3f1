"""A CNN behind polarized pixels under adaptive attacks, on MNIST, without adversarial or certified training.

    SKROBUST_DATA=DIR python benchmarks/reproduce/polarizing_cnn.py --models DIR      # about half an hour on one core
    python benchmarks/reproduce/polarizing_cnn.py --quick                             # a minute, on the bundled digits

Two networks of one form, trained on the same noisy images by the same recipe: one sees 0/1 codes (pixels against one
threshold), the other the images. The noise does not depend on a model: three quarters of the images are moved by up to
0.4, most of them towards one of their ten nearest images of another class, pixel by pixel; the others by random signs
in blocks.

Both then meet, on 1000 test images at l-infinity 0.1, 0.2 and 0.3: corner search, PGD with restarts (half of them
annealed), APGD through all backward passes, corner search of nine other classes, transfer from the other network, a
cascade with ten restarts (APGD on cross-entropy, targeted APGD, FAB, Square), and Square alone. Each attack is run on
the images that survive; accuracy is that of the Pipeline's own `predict`; the worst case per image counts, also over
smaller radii. The black box alone checks that no gradient is masked.

Each attack's outcome is stored in the folder of the models and not computed again. Missing attacks can be run one by
one (--attacks), also at the same time. Writes polarizing_cnn.json.
"""

import argparse
import json
import pathlib
import time

import numpy as np
import torch
from _polarizing import RESULTS
from scipy.ndimage import uniform_filter
from sklearn.pipeline import make_pipeline
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from threadpoolctl import threadpool_limits
from torch import nn

import skrobust
from skrobust import PolarizingCoder
from skrobust.attacks import APGD, FAB, PGD, Cascade, CornerSearch, Square, Transfer
from skrobust.datasets import load_digits_images, load_mnist
from skrobust.evaluation import wilson_interval

NAME = "polarizing_cnn"
BLACK_BOX = "Square alone"
PAPER = {
    "front end": "coif1, rho = 3.5 %, 4-layer CNN (arXiv 1810.10625, Tables II and III)",
    "attack": "PGD, 100 restarts, one backward pass",
    "percent": {"clean": 98.97, "0.1": 92.18, "0.2": 61.04, "0.3": 13.15},
}
TARGETS = {"0.1": 0.96, "0.2": 0.93, "0.3": 0.84}
FULL = {"n_copies": 6, "n_train": None, "n_test": 1000, "eps": (0.1, 0.2, 0.3), "n_iter": 30, "n_queries": 500}
QUICK = {"n_copies": 20, "n_train": 1300, "n_test": 40, "eps": (0.1,), "n_iter": 5, "n_queries": 30}


class ConvolutionalNet(nn.Module):
    """Two convolutions of stride 2 and a hidden layer of 256; takes images or codes as rows."""

    def __init__(self, side, drop_inputs=0.25, drop=0.4):
        super().__init__()
        self.side, self.drop_inputs = side, drop_inputs
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(drop),
            nn.Linear(64 * (side // 4) ** 2, 256),
            nn.ReLU(),
            nn.Dropout(drop),
            nn.Linear(256, 10),
        )

    def forward(self, X):
        X = X.reshape(-1, 1, self.side, self.side)
        if self.training:
            X = X * (torch.rand_like(X) >= self.drop_inputs)
        return self.layers(X)


def near_images_of_others(X, y, side, rng, n_pool=6000, n_near=10):
    """For each image, indices of the `n_near` images of other classes that are most like it."""
    blurred = uniform_filter(X.reshape(-1, side, side), size=(1, 3, 3))[:, ::2, ::2].reshape(len(X), -1)
    pool = rng.permutation(len(X))[:n_pool]
    squares = (blurred[pool] ** 2).sum(axis=1)
    near = np.empty((len(X), n_near), dtype=np.int64)
    for start in range(0, len(X), 2000):
        part = slice(start, start + 2000)
        distance = squares - 2 * blurred[part] @ blurred[pool].T
        distance[y[part][:, None] == y[pool]] = np.inf
        near[part] = pool[np.argpartition(distance, n_near, axis=1)[:, :n_near]]
    return near


def noisy(X, near, side, rng):
    """A copy of the images: a quarter as they are, the others moved by up to 0.4 (see the top of this file)."""
    kind = rng.random(len(X))
    result = X.copy()
    directed = np.flatnonzero((kind >= 0.25) & (kind < 0.25 + 0.75 * 0.7))
    for part in np.array_split(directed, max(1, len(directed) // 4000)):
        other = X[near[part, rng.integers(near.shape[1], size=len(part))]]
        step = np.where(np.abs(other - X[part]) >= 0.05, np.sign(other - X[part]), 0)
        result[part] += rng.uniform(0.1, 0.4, (len(part), 1)).astype(X.dtype) * step.astype(X.dtype)
    blocky = np.flatnonzero(kind >= 0.25 + 0.75 * 0.7)
    sizes = [size for size in (1, 2, 4, 7, side) if side % size == 0]
    for size, part in zip(sizes, np.array_split(rng.permutation(blocky), len(sizes)), strict=True):
        signs = rng.choice([-1, 1], (len(part), side // size, side // size)).repeat(size, axis=1).repeat(size, axis=2)
        strength = rng.uniform(0, 0.4, (len(part), 1)).astype(X.dtype)
        result[part] += strength * signs.reshape(len(part), -1).astype(X.dtype)
    return np.clip(result, 0, 1)


def trained(state, X, y, side):
    """The network as a skorch classifier, trained for one pass over X, or loaded from the file `state`."""
    batch_size = 128
    schedule = LRScheduler(
        torch.optim.lr_scheduler.OneCycleLR,
        max_lr=2e-3,
        total_steps=-(-len(X) // batch_size) + 1,
        pct_start=0.04,
        cycle_momentum=False,
        step_every="batch",
    )
    net = NeuralNetClassifier(
        ConvolutionalNet,
        module__side=side,
        criterion=nn.CrossEntropyLoss,
        criterion__label_smoothing=0.1,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=0,
        lr=2e-3,
        batch_size=batch_size,
        max_epochs=1,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks=[schedule],
        classes=list(range(10)),
        verbose=0,
    )
    if state is not None and state.exists():
        net.initialize()
        net.load_params(f_params=state)
        return net
    torch.manual_seed(0)
    started = time.perf_counter()
    net.fit(X, y)
    print(f"trained on {len(X)} images in {time.perf_counter() - started:.0f} s", flush=True)
    if state is not None:
        state.parent.mkdir(parents=True, exist_ok=True)
        net.save_params(f_params=state)
    return net


def trained_models(folder, train, size):
    """Pipeline behind the coder, and the network that sees the images."""
    X, y, side = train
    coder = PolarizingCoder(eps=0.3, image_shape=(side, side)).fit(X)
    states = [None if folder is None else folder / f"{name}.pt" for name in ("polarized", "undefended")]
    copies, labels = np.zeros((0, side * side), np.float32), np.zeros(0, np.int64)
    if any(state is None or not state.exists() for state in states):
        rng = np.random.default_rng(0)
        near = near_images_of_others(X, y, side, rng)
        copies = np.concatenate([noisy(X, near, side, rng) for _ in range(size["n_copies"])])
        labels = np.tile(y, size["n_copies"])
    behind = trained(states[0], coder.transform(copies) if len(copies) else copies, labels, side)
    return {
        "polarizing coder": make_pipeline(coder, behind),
        "undefended": make_pipeline(trained(states[1], copies, labels, side)),
    }


def suite(eps, size, side, other):
    """The attacks by name, strongest first; the last is the black box alone, on all images."""
    n_iter, seed = size["n_iter"], {"random_state": 0}
    square = {"n_iter": size["n_queries"], "image_shape": (side, side)}
    parts = [
        APGD(n_iter=n_iter // 3, n_restarts=10),
        APGD(n_iter=n_iter // 3, loss="targeted_dlr", n_targets=3, n_restarts=2),
        FAB(n_iter=n_iter // 3, n_targets=3),
        Square(**square),
    ]
    margin = {"loss": "margin", "gradient": "smooth"}
    return {
        "corner search": CornerSearch(eps=eps, n_iter=n_iter, n_targets=5, gradient="smooth"),
        "PGD": PGD(eps=eps, n_iter=n_iter, n_restarts=4, momentum=0.75, **margin, **seed),
        "APGD, all passes": APGD(eps=eps, n_iter=n_iter // 2, gradient="worst", **seed),
        "transfer": Transfer(PGD(eps=eps, n_iter=n_iter, **margin, **seed), other),
        "cascade": Cascade(eps=eps, attacks=parts, gradient="smooth", **seed),
        BLACK_BOX: Square(eps=eps, **square, **seed),
    }


class Outcomes:
    """Which images each attack broke, stored in a folder."""

    def __init__(self, folder):
        self.folder, self.known = folder, {}
        self.read()

    def read(self):
        """Read the outcomes that other processes have written."""
        for path in sorted(self.folder.glob("*.json")) if self.folder is not None else []:
            record = json.loads(path.read_text(encoding="utf-8"))
            self.known[record["model"], record["eps"], record["attack"]] = record

    def lost(self, model, eps, n_images, leave_out=()):
        """Mask of the images that any attack within `eps` broke."""
        mask = np.zeros(n_images, dtype=bool)
        for (of, radius, attack), record in self.known.items():
            if of == model and radius <= eps and attack not in leave_out:
                mask[record["taken"]] = True
        return mask

    def add(self, model, eps, attack, record):
        self.known[model, eps, attack] = {"model": model, "eps": eps, "attack": attack, **record}
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{model}_{eps:g}_{attack}.json".replace(" ", "_")
            path.write_text(json.dumps(self.known[model, eps, attack]) + "\n", encoding="utf-8")


def attack_once(model, X, y, attack, standing):
    """Run `attack` on the images `standing`; indices of those that it broke."""
    started = time.process_time()
    taken = np.zeros(0, dtype=int)
    if len(standing):
        X_adv = attack.perturb(model, X[standing], y[standing])
        assert np.abs(X_adv.astype(np.float64) - X[standing]).max() <= attack.eps
        taken = standing[model.predict(X_adv) != y[standing]]
    return {
        "taken": taken.tolist(),
        "n_attacked": len(standing),
        "cpu_seconds": round(time.process_time() - started, 1),
        "settings": attack.describe(),
    }


def run(arguments, models, X, y, size, side):
    """Run what is missing, radius by radius; images broken within a smaller radius are not attacked again."""
    outcomes = Outcomes(arguments.models)
    for eps in arguments.eps or size["eps"]:
        for name, model in models.items():
            if arguments.model not in (None, name):
                continue
            right = model.predict(X) == y
            other = models["undefended" if name != "undefended" else "polarizing coder"]
            for title, attack in suite(eps, size, side, other).items():
                outcomes.read()
                if (name, eps, title) in outcomes.known or (arguments.attacks and title not in arguments.attacks):
                    continue
                spared = title != BLACK_BOX
                standing = np.flatnonzero(right & ~outcomes.lost(name, eps, len(X)) if spared else right)
                record = attack_once(model, X, y, attack, standing)
                outcomes.add(name, eps, title, record)
                left = np.mean(right & ~outcomes.lost(name, eps, len(X)))
                print(
                    f"{name}, eps {eps:g}, {title}: {len(record['taken'])} of {len(standing)} taken, "
                    f"{left:.1%} stand; {record['cpu_seconds']} s",
                    flush=True,
                )
    return outcomes


def table(models, outcomes, X, y, size):
    """Accuracy after all attacks, and under the black box alone."""
    rows = {}
    for name, model in models.items():
        right = model.predict(X) == y
        row = {"clean": _figure(right), "attacked": {}}
        for eps in size["eps"]:
            done = {attack: r for (of, e, attack), r in outcomes.known.items() if of == name and e == eps}
            white = right & ~outcomes.lost(name, eps, len(X), leave_out=(BLACK_BOX, "transfer"))
            square = np.zeros(len(X), dtype=bool)
            square[done.get(BLACK_BOX, {"taken": []})["taken"]] = True
            row["attacked"][f"{eps:g}"] = {
                "worst": _figure(right & ~outcomes.lost(name, eps, len(X))),
                "white_box": _figure(white),
                "square_alone": _figure(right & ~square) if BLACK_BOX in done else None,
                "taken_by_square_but_not_by_white_box": int((white & square).sum()),
                "attacks": [
                    {"n_taken": len(r["taken"]), **{k: v for k, v in r.items() if k not in ("taken", "model", "eps")}}
                    for r in done.values()
                ],
            }
        rows[name] = row
    return rows


def _figure(standing):
    n = len(standing)
    return {"accuracy": float(np.mean(standing)), "ci": list(wilson_interval(int(standing.sum()), n)), "n": n}


def load(arguments, size):
    """Training images, labels and side; test images and labels."""
    if arguments.quick:
        X, y = load_digits_images(split="all", dtype="float32", return_X_y=True)
        cut = size["n_train"]
        return (X[:cut], y[:cut], 8), (X[cut : cut + size["n_test"]], y[cut : cut + size["n_test"]])
    params = {"data_home": arguments.data_home, "dtype": "float32", "return_X_y": True}
    test_X, test_y = load_mnist(split="test", **params)
    return (*load_mnist(split="train", **params), 28), (test_X, test_y)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-home", help="folder with MNIST; default: SKROBUST_DATA, then scikit-learn's data home")
    parser.add_argument("--models", type=pathlib.Path, help="folder that keeps networks and outcomes of attacks")
    parser.add_argument("--output", type=pathlib.Path, help=f"folder of the JSON; default: {RESULTS.name}/")
    parser.add_argument("--quick", action="store_true", help="a minute, on the bundled digits: a check, no result")
    parser.add_argument("--eps", type=float, nargs="+", help="radii to attack at now")
    parser.add_argument("--model", help="the model to attack now")
    parser.add_argument("--attacks", nargs="+", help="the attacks to run now")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    torch.set_num_threads(1)
    with threadpool_limits(1, user_api="blas"):
        train, (X, y) = load(arguments, size)
        models = trained_models(arguments.models, train, size)
        clean = {name: float(np.mean(model.predict(X) == y)) for name, model in models.items()}
        for name, share in clean.items():
            print(f"{name}: {share:.2%} of {len(X)} test images", flush=True)
        X, y = X[: size["n_test"]], y[: size["n_test"]]
        outcomes = run(arguments, models, X, y, size, train[2])
        coder = models["polarizing coder"][0]
        shares = {f"{eps:g}": coder.ambiguous_share(X, eps, clip=(0, 1)) for eps in size["eps"]}
        content = {
            "what": __doc__.splitlines()[0],
            "threat_model": "white box, l-infinity, worst case per image over all attacks; black boxes beside it",
            "training": "code dropout, dropout, label smoothing, noisy images; no adversarial, no certified training",
            "skrobust": skrobust.__version__,
            "targets": TARGETS,
            "paper": PAPER,
            "threshold": coder.thresholds_.ravel().tolist(),
            "clean_on_all_test_images": clean,
            "ambiguous_shares": {
                eps: {"share": s.overall, "entries": s.overall * X.shape[1], "ratio": s.ratio, "verdict": s.verdict}
                for eps, s in shares.items()
            },
            "models": table(models, outcomes, X, y, size),
        }
    for name, row in content["models"].items():
        accuracies = ", ".join(f"{eps}: {100 * cell['worst']['accuracy']:.1f}" for eps, cell in row["attacked"].items())
        print(f"{name}: clean {100 * row['clean']['accuracy']:.1f}, worst at {accuracies}", flush=True)
    output = arguments.output or (None if arguments.quick else RESULTS)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / f"{NAME}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
