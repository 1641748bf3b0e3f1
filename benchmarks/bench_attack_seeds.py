"""Attacks with one random start beside other programs' at equal steps, over several seeds: images broken.

    pip install -e ".[bench]"
    python benchmarks/bench_attack_seeds.py --data-home DIR     # needs MNIST; some minutes

All attack the same correctly classified MNIST test images of each of four models, at one eps in l-infinity. The
model's own `predict` decides. Writes results/bench_attack_seeds.json.
"""

import argparse
import logging
import pathlib

import foolbox
import numpy as np
import torch
from _race import RESULTS, machine, write_json
from bench_autoattack import SEED, Rows, images, zoo
from pyautoattack import AutoAttack

from skrobust import as_module
from skrobust.attacks import APGD, PGD, IterativeLocallyLinear

N_IMAGES, N_SEEDS = 100, 8
EPS = {"scaler + PCA + SVC (RBF)": 0.02, "MLP": 0.04, "linear SVM": 0.04, "logistic": 0.04}


def authors_apgd(model, X, y, eps, seed):
    """APGD on cross-entropy by `pyautoattack`, 100 steps."""
    x = torch.tensor(X, dtype=torch.float32).reshape(-1, 1, 28, 28)
    cascade = AutoAttack(Rows(model), eps=eps, seed=seed, version="custom", attacks=["apgd-ce"])
    cascade.apgd.n_restarts = 1
    return cascade.run_standard_evaluation(x, torch.as_tensor(y), batch_size=len(y))[0].flatten(1).double().numpy()


def foolbox_pgd(model, X, y, eps, seed):
    """PGD of foolbox, 40 steps."""
    torch.manual_seed(seed)
    network = foolbox.PyTorchModel(as_module(model, dtype="float64"), bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(rel_stepsize=2.5 / 40, steps=40)
    return attack(network, torch.as_tensor(X), torch.as_tensor(y), epsilons=eps)[1].numpy()


def ours(attack):
    """An attack of ours as a function of model, images, labels, eps and seed."""
    return lambda model, X, y, eps, seed: attack.set_params(eps=eps, random_state=seed).perturb(model, X, y)


ATTACKS = {
    "APGD, 100 steps": ours(APGD(n_iter=100)),
    "APGD of pyautoattack, 100 steps": authors_apgd,
    "PGD, 40 steps": ours(PGD(n_iter=40)),
    "PGD of foolbox, 40 steps": foolbox_pgd,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home", required=True, help="folder with MNIST")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "bench_attack_seeds.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    X, y, X_test, y_test = images("mnist", 10, args.data_home)
    results = {}
    for name, eps in EPS.items():
        model = zoo("mnist")[name][0].fit(X, y)
        known = model.predict(X_test[:N_IMAGES]) == y_test[:N_IMAGES]
        clean, labels = X_test[:N_IMAGES][known], y_test[:N_IMAGES][known]

        def broken(attacked, model=model, clean=clean, labels=labels, eps=eps):
            attacked = np.clip(attacked, np.maximum(clean - eps, 0), np.minimum(clean + eps, 1))
            return int((model.predict(attacked) != labels).sum())

        n_broken = {
            attack: [broken(run(model, clean, labels, eps, SEED + k)) for k in range(N_SEEDS)]
            for attack, run in ATTACKS.items()
        }
        by_class = IterativeLocallyLinear(eps, n_iter=40).perturb(model, clean, labels)
        n_broken["each other class in turn, 40 steps"] = [broken(by_class)]
        results[name] = {"eps": eps, "n": len(labels), "broken": n_broken}
    print(table(results))
    content = {"what": __doc__.splitlines()[0], "machine": machine("torch", "pyautoattack", "foolbox"), "seed": SEED}
    write_json(args.output, content | {"models": results})


def table(results):
    """Mean (least to most) number of broken images, as a table in Markdown."""
    names = list(next(iter(results.values()))["broken"])
    lines = [f"| model | eps | n | {' | '.join(names)} |", "| --- " * (3 + len(names)) + "|"]
    for model, entry in results.items():
        cells = [
            f"{np.mean(n_broken):.1f}" + (f" ({min(n_broken)} to {max(n_broken)})" if len(n_broken) > 1 else "")
            for n_broken in entry["broken"].values()
        ]
        lines.append(f"| {model} | {entry['eps']} | {entry['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
