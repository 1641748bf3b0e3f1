"""Our PGD, APGD, Square and Carlini-Wagner beside those of ART, foolbox and torchattacks.

    python benchmarks/bench_attacks.py --data-home data --models models    # about 12 minutes of one core

One CNN trained on MNIST with skorch (`--models`: the folder that keeps it), the same images, eps, steps, step sizes,
restarts and batches for all, in float32 on one thread. Robust accuracies on 1000 test images, which were not selected.
Time per image: CPU time of attacking the first 200 of them after a warm-up, each library in turn in every round, median
of the rounds. Carlini-Wagner: mean l2 distance of the adversarial images of the first 50, and the CPU time of that one
run. Writes benchmarks/results/bench_attacks.json; `--only PGD` runs one part again.
"""

import argparse
import json
import pathlib
import statistics
import time

import numpy as np
import torch
from _mnist_cnn import trained_network
from _race import RESULTS, machine, write_json
from art.attacks.evasion import AutoProjectedGradientDescent, CarliniL2Method, ProjectedGradientDescent, SquareAttack
from art.estimators.classification import PyTorchClassifier
from foolbox import PyTorchModel
from foolbox.attacks import L2CarliniWagnerAttack, LinfPGD
from threadpoolctl import threadpool_limits
from torch import nn
from torchattacks import APGD as TorchattacksAPGD
from torchattacks import CW as TorchattacksCW
from torchattacks import PGD as TorchattacksPGD
from torchattacks import Square as TorchattacksSquare

from skrobust import attacks
from skrobust.datasets import load_mnist

EPS = 0.1
PGD = {"n_iter": 40, "step_size": 0.01, "n_restarts": 2}
APGD = {"n_iter": 50}
SQUARE = {"n_iter": 1000}
CW = {"n_iter": 100, "binary_search_steps": 5, "learning_rate": 0.1, "initial_const": 1.0}
BATCH = 200


class Contest:
    """The CNN as each library wants it, and the attacks: functions of (X, y) that return the attacked images."""

    def __init__(self, net, seed):
        self.net, self.seed = net, seed
        self.module = net.module_.eval()
        self.classifier = PyTorchClassifier(
            self.module, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0, 1), device_type="cpu"
        )
        self.fmodel = PyTorchModel(self.module, bounds=(0, 1), device="cpu")

    def ours(self, name, **params):
        attack = getattr(attacks, name)(random_state=self.seed, batch_size=BATCH, **params)
        return lambda X, y: attack.perturb(self.module, X, y)

    def art(self, cls, **params):
        def run(X, y):
            np.random.seed(self.seed)  # noqa: NPY002 (ART draws from it)
            torch.manual_seed(self.seed)
            attack = cls(self.classifier, batch_size=BATCH, verbose=False, **params)
            return attack.generate(X, y=np.eye(10, dtype=np.float32)[y])

        return run

    def foolbox(self, attack, eps):
        def run(X, y):
            torch.manual_seed(self.seed)
            return attack(self.fmodel, X, y, epsilons=eps)[1]

        return self._on_tensors(run)

    def torchattacks(self, cls, restarts=1, **params):
        """An attack without restarts is run several times; an image counts as broken if any run broke it."""

        def run(X, y):
            torch.manual_seed(self.seed)
            attack = cls(self.module, **params)
            adversarial = attack(X, y)
            for _ in range(restarts - 1):
                again = attack(X, y)
                with torch.no_grad():
                    lost = self.module(again).argmax(1) != y
                adversarial = torch.where(lost[:, None, None, None], again, adversarial)
            return adversarial

        return self._on_tensors(run)

    @staticmethod
    def _on_tensors(run):
        def in_batches(X, y):
            parts = [run(torch.tensor(X[at : at + BATCH]), torch.tensor(y[at : at + BATCH])) for at in _starts(X)]
            return torch.cat(parts).detach().numpy()

        return in_batches

    def robust_accuracy(self, X_adv, y):
        return float(np.mean(self.net.predict(X_adv) == y))

    def all(self):
        """Attack -> library -> function."""
        pgd = {"eps": EPS, "eps_step": PGD["step_size"], "max_iter": PGD["n_iter"]}
        inner = LinfPGD(steps=PGD["n_iter"], abs_stepsize=PGD["step_size"])
        cw = {"learning_rate": CW["learning_rate"], "binary_search_steps": CW["binary_search_steps"]}
        return {
            "PGD": {
                "skrobust": self.ours("PGD", eps=EPS, **PGD),
                "ART": self.art(ProjectedGradientDescent, num_random_init=PGD["n_restarts"], **pgd),
                "foolbox": self.foolbox(inner.repeat(PGD["n_restarts"]), EPS),
                "torchattacks": self.torchattacks(
                    TorchattacksPGD, PGD["n_restarts"], eps=EPS, alpha=PGD["step_size"], steps=PGD["n_iter"]
                ),
            },
            "APGD": {
                "skrobust": self.ours("APGD", eps=EPS, **APGD),
                "ART": self.art(
                    AutoProjectedGradientDescent,
                    eps=EPS,
                    eps_step=2 * EPS,
                    max_iter=APGD["n_iter"],
                    nb_random_init=1,
                    loss_type="cross_entropy",
                ),
                "torchattacks": self.torchattacks(TorchattacksAPGD, eps=EPS, steps=APGD["n_iter"], seed=self.seed),
            },
            "Square": {
                "skrobust": self.ours("Square", eps=EPS, **SQUARE),
                "ART": self.art(SquareAttack, eps=EPS, max_iter=SQUARE["n_iter"], nb_restarts=1, p_init=0.8),
                "torchattacks": self.torchattacks(
                    TorchattacksSquare, eps=EPS, n_queries=SQUARE["n_iter"], p_init=0.8, seed=self.seed
                ),
            },
            "CarliniWagner": {
                "skrobust": self.ours("CarliniWagner", **CW),
                "ART": self.art(CarliniL2Method, max_iter=CW["n_iter"], initial_const=CW["initial_const"], **cw),
                "foolbox": self.foolbox(
                    L2CarliniWagnerAttack(
                        steps=CW["n_iter"],
                        stepsize=CW["learning_rate"],
                        binary_search_steps=CW["binary_search_steps"],
                        initial_const=CW["initial_const"],
                    ),
                    None,
                ),
                # Without binary search: as many steps in one run, at its own c = 1.
                "torchattacks": self.torchattacks(
                    TorchattacksCW, lr=CW["learning_rate"], steps=CW["n_iter"] * CW["binary_search_steps"]
                ),
            },
        }


def _starts(X):
    return range(0, len(X), BATCH)


def _layout(library, X):
    return X.reshape(-1, 28, 28) if library == "skrobust" else X.reshape(-1, 1, 28, 28)


def cpu_milliseconds(contenders, X, y, rounds):
    """CPU time per image of each contender, one value a round; in every round all take their turn."""
    milliseconds = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            start = time.process_time()
            run(_layout(name, X), y)
            if turn:  # the first one warms up
                milliseconds[name].append(1e3 * (time.process_time() - start) / len(X))
    return milliseconds


def compare(contest, contenders, X, y, *, n_timed, rounds):
    """Accuracies on all images, times on the first."""
    milliseconds = cpu_milliseconds(contenders, X[:n_timed], y[:n_timed], rounds)
    result = {}
    for name, run in contenders.items():
        X_adv = run(_layout(name, X), y).reshape(len(X), -1)
        result[name] = {
            "robust_accuracy": contest.robust_accuracy(X_adv, y),
            "largest_linf": float(np.abs(X_adv.astype(float) - X).max()),
            "cpu_milliseconds_per_image": statistics.median(milliseconds[name]),
            "of_each_round": milliseconds[name],
        }
        print(f"  {name:13s} {result[name]}", flush=True)
    return result


def distances(contest, contenders, X, y):
    """Carlini-Wagner: success, and mean l2 distance over the images that all libraries found adversarial."""
    right = contest.net.predict(X) == y
    adversarial, length, milliseconds = {}, {}, {}
    for name, run in contenders.items():
        run(_layout(name, X[:3]), y[:3])  # warms up
        start = time.process_time()
        X_adv = run(_layout(name, X), y).reshape(len(X), -1)
        milliseconds[name] = 1e3 * (time.process_time() - start) / len(X)
        # foolbox returns blank images where it found nothing.
        adversarial[name] = right & (contest.net.predict(X_adv) != y) & X_adv.any(axis=1)
        length[name] = np.linalg.norm(X_adv.astype(float) - X, axis=1)
    by_all = np.logical_and.reduce(list(adversarial.values()))
    result = {}
    for name in contenders:
        result[name] = {
            "adversarial_share": float(np.mean(adversarial[name][right])),
            "mean_l2": float(length[name][adversarial[name]].mean()),
            "mean_l2_where_all_succeed": float(length[name][by_all].mean()),
            "share_where_all_succeed": float(np.mean(by_all[right])),
            "cpu_milliseconds_per_image": milliseconds[name],
        }
        print(f"  {name:13s} {result[name]}", flush=True)
    return result


def earlier_parts(path, conditions):
    """What an earlier run under the same conditions has written."""
    if not pathlib.Path(path).exists():
        return {}
    earlier = json.loads(pathlib.Path(path).read_text(encoding="utf8"))
    attacks_then = earlier.pop("attacks")
    return attacks_then if earlier == json.loads(json.dumps(conditions)) else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home", default=None)
    parser.add_argument("--models", default="models", help="folder that keeps the trained network")
    parser.add_argument("--n", type=int, default=1000, help="test images for the accuracies")
    parser.add_argument("--n-timed", type=int, default=200)
    parser.add_argument("--n-cw", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="attacks")
    parser.add_argument("--output", default=RESULTS / "bench_attacks.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    net = trained_network(args.models, args.data_home)
    X, y = load_mnist(args.data_home, split="test", return_X_y=True)
    X, y = X[: args.n], y[: args.n].astype(np.int64)
    contest = Contest(net, args.seed)
    clean = contest.robust_accuracy(X, y)
    conditions = {
        "machine": machine("torch", "skorch", "adversarial-robustness-toolbox", "foolbox", "torchattacks"),
        "threads": 1,
        "batch_size": BATCH,
        "seed": args.seed,
        "norm": "linf",
        "eps": EPS,
        "n": args.n,
        "n_timed": args.n_timed,
        "rounds": args.rounds,
        "clean_accuracy": clean,
        "settings": {"PGD": PGD, "APGD": APGD, "Square": SQUARE, "CarliniWagner": {**CW, "n": args.n_cw}},
    }
    results = earlier_parts(args.output, conditions) if args.only else {}
    with threadpool_limits(1, user_api="blas"):
        for attack, contenders in contest.all().items():
            if args.only and attack not in args.only:
                continue
            print(attack, flush=True)
            if attack == "CarliniWagner":
                results[attack] = distances(contest, contenders, X[: args.n_cw], y[: args.n_cw])
            else:
                results[attack] = compare(contest, contenders, X, y, n_timed=args.n_timed, rounds=args.rounds)
            write_json(args.output, {**conditions, "attacks": results})


if __name__ == "__main__":
    main()
