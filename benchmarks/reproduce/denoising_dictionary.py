"""MLP and ConvNet of "Denoising dictionary learning against adversarial perturbations" (arXiv 1801.02257) on MNIST.

    SKROBUST_DATA=DIR python benchmarks/reproduce/denoising_dictionary.py --models models    # an hour on one core
    python benchmarks/reproduce/denoising_dictionary.py --quick             # scikit-learn's digits, under a minute

The paper's threat model is transfer: FGSM (eps = 0.3) and JSMA are made on the network alone, which then classifies
what overlapping 8 x 8 patches, approximated by a few atoms each, make of the images. Beside it stands what the paper
left out: the attacker who knows the denoiser, PGD and FGSM through it with four backward passes.

What differs from the paper: the dictionary is learned on patches of clean training images, not on the test images; 38
atoms, its own number, and 64 to 256; the rule of the pursuit, which the paper does not state, is chosen for each
network and number of atoms on attacked *training* images; the networks are trained for a few epochs, not 100; JSMA,
whose parameters the paper does not state, moves pixels by 1, at most a tenth of them, towards the nearest rival. The
MLP is also trained anew on denoised training images, the attack still being made on the one that was not.

Writes benchmarks/results/denoising_dictionary.json and .png, and prints the tables of
docs/results/denoising_dictionary.md.
"""

import argparse
import itertools
import json
import pathlib
import sys
import time

import numpy as np
import torch
from _denoising_networks import NETWORKS, trained_network
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from skrobust import PatchDictionaryDenoiser
from skrobust.attacks import FGSM, JSMA, PGD
from skrobust.datasets import load_digits_images, load_mnist
from skrobust.dictionaries import OnlineDictionaryLearning
from skrobust.evaluation import robust_accuracy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _race import RESULTS, machine, write_json

EPS = 0.3
PAPER = {  # accuracy in percent: tables 1 and 2
    "MLP": {"clean": 98.39, "FGSM": {"perturbed": 12.80, "restored": 82}, "JSMA": {"perturbed": 53.02, "restored": 60}},
    "ConvNet": {
        "clean": 99.35,
        "FGSM": {"perturbed": 79.90, "restored": 90.46},
        "JSMA": {"perturbed": 79.90, "restored": 93.85},
    },
}
FULL = {
    "epochs": {"MLP": 10, "ConvNet": 2},
    "atoms": [38, 64, 128, 256],
    "patch_size": 8,
    "n_train": 60000,
    "n_learn": 2000,
    "n_choose": {"FGSM": 150, "JSMA": 50},
    "n_test": {"FGSM": 1000, "JSMA": 200},
    "n_white": 100,
    "n_iter": 20,
    "counts": [1, 2],
    "noise_stds": [0.2, 0.25, 0.3, 0.4],
    "retrained": {"MLP": 5},
}
QUICK = {
    **FULL,
    "epochs": {"MLP": 4, "ConvNet": 3},
    "atoms": [8, 32],
    "patch_size": 4,
    "n_train": 1347,
    "n_learn": 300,
    "n_choose": {"FGSM": 60, "JSMA": 20},
    "n_test": {"FGSM": 100, "JSMA": 20},
    "n_white": 20,
    "n_iter": 5,
    "counts": [1],
    "noise_stds": [0.2],
    "retrained": {"MLP": 4},
}


def attacks(seed):
    """Those of the paper, by name."""
    return {"FGSM": FGSM(eps=EPS, random_state=seed), "JSMA": JSMA(theta=1.0, gamma=0.1, n_targets=1)}


def adaptive_attacks(size, seed):
    """Those that know the denoiser."""
    return {
        "FGSM": FGSM(eps=EPS, gradient="worst", random_state=seed),
        "PGD": PGD(eps=EPS, gradient="worst", n_iter=size["n_iter"], loss="margin", random_state=seed),
    }


def learned_atoms(X, n_atoms, size, remove_mean, seed):
    """A dictionary of patches of clean training images."""
    side = round(X.shape[1] ** 0.5)
    learner = OnlineDictionaryLearning(n_nonzero_coefs=1, max_iter=10)
    return PatchDictionaryDenoiser(
        n_atoms,
        patch_size=size["patch_size"],
        learner=learner,
        remove_mean=remove_mean,
        image_shape=(side, side),
        random_state=seed,
    ).fit(X[: size["n_learn"]])


def candidates(learned, size):
    """Denoisers with the atoms of `learned`, by K or by noise level."""
    rules = [{"n_nonzero_coefs": k} for k in size["counts"]] + [{"noise_std": s} for s in size["noise_stds"]]
    for rule in rules:
        settings = {**learned.get_params(deep=False), "n_components": None, "learner": None, "clip": (0, 1)}
        yield PatchDictionaryDenoiser(**{**settings, **rule, "dictionary": learned.components_})


def chosen_denoiser(net, X, y, perturbed, denoisers):
    """The one that restores most of the attacked training images, clean ones counted as a third attack."""
    best, most = None, -1.0
    for denoiser in denoisers:
        denoiser.fit(X[:1])
        rates = [accuracy(net, denoiser.transform(X_adv), y[: len(X_adv)]) for X_adv in perturbed.values()]
        rates.append(accuracy(net, denoiser.transform(X[: len(perturbed["FGSM"])]), y[: len(perturbed["FGSM"])]))
        if np.mean(rates) > most:
            best, most = denoiser, float(np.mean(rates))
    return best


def accuracy(model, X, y):
    return float(np.mean(model.predict(X) == y))


def quality(clean, images):
    """Mean PSNR (dB, peak 1) and SSIM over the images that differ from the clean ones at all."""
    side = round(clean.shape[1] ** 0.5)
    window = min(7, side - 1 + side % 2)
    pairs = [
        (a.reshape(side, side), b.reshape(side, side)) for a, b in zip(clean, images, strict=True) if (a != b).any()
    ]
    if not pairs:
        return None
    return {
        "n": len(pairs),
        "psnr": float(np.mean([peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs])),
        "ssim": float(np.mean([structural_similarity(a, b, data_range=1, win_size=window) for a, b in pairs])),
    }


def transferred(net, behind, denoiser, X, y, perturbed):
    """The paper's columns for one attack on `net`; `behind` is the network behind the denoiser."""
    restored = denoiser.transform(perturbed)
    changed = (perturbed != X).any(axis=1)
    fooled = (net.predict(X) == y) & (net.predict(perturbed) != y)
    return {
        "n": len(X),
        "clean": accuracy(net, X, y),
        "clean_denoised": accuracy(behind, denoiser.transform(X), y),
        "perturbed": accuracy(net, perturbed, y),
        "restored": accuracy(behind, restored, y),
        "restored_of_fooled": accuracy(behind, restored[fooled], y[fooled]) if fooled.any() else None,
        "quality_perturbed": quality(X, perturbed),
        "quality_restored": quality(X[changed], restored[changed]),
    }


def defence(net, behind, denoiser, test, for_test, size, seed):
    """What is left of attacks made on `net`, and of those made on the denoiser and the network `behind` it."""
    X, y = test
    n, defended = size["n_white"], make_pipeline(denoiser, behind)
    return {
        "transfer": {
            kind: transferred(net, behind, denoiser, X[: len(X_adv)], y[: len(X_adv)], X_adv)
            for kind, X_adv in for_test.items()
        },
        "white_box": {
            kind: {"accuracy": robust_accuracy(defended, X[:n], y[:n], attack), "n": n, **attack.describe()}
            for kind, attack in adaptive_attacks(size, seed).items()
        },
    }


def perturbed_once(attack, net, X, y, path):
    """The attacked images, kept beside the network so that an interrupted run need not begin anew."""
    if path.exists():
        return np.load(path)
    X_adv = attack.perturb(net, X, y)
    np.save(path, X_adv)
    return X_adv


def study(name, data, size, models, seed):
    """One network: its attacks, and for each number of atoms the chosen denoiser, transfer and white box."""
    X_train, y_train, X, y = data
    net = trained_network(name, X_train, y_train, epochs=size["epochs"][name], folder=models)
    result = {"clean_on_all_test_images": accuracy(net, X, y), "epochs": size["epochs"][name], "atoms": {}}
    print(f"{name}: {result['clean_on_all_test_images']:.2%} on {len(X)} clean test images", flush=True)
    for_choice, for_test = {}, {}
    for kind, attack in attacks(seed).items():
        n, m = size["n_choose"][kind], size["n_test"][kind]
        stem = f"{name}_{X.shape[1]}_epoch{size['epochs'][name]}_{kind}_seed{seed}"
        for_choice[kind] = perturbed_once(attack, net, X_train[:n], y_train[:n], models / f"{stem}_train{n}.npy")
        for_test[kind] = perturbed_once(attack, net, X[:m], y[:m], models / f"{stem}_test{m}.npy")
        print(f"  {kind}: {accuracy(net, for_test[kind], y[:m]):.1%} of {m} left", flush=True)
    n = size["n_white"]
    result["undefended_white_box"] = {
        kind: robust_accuracy(net, X[:n], y[:n], attack) for kind, attack in adaptive_attacks(size, seed).items()
    }
    pictures = None
    for n_atoms in size["atoms"]:
        learned = [learned_atoms(X_train, n_atoms, size, remove_mean, seed) for remove_mean in (True, False)]
        denoisers = itertools.chain.from_iterable(candidates(one, size) for one in learned)
        denoiser = chosen_denoiser(net, X_train, y_train, for_choice, denoisers)
        row = {
            "rule": {word: getattr(denoiser, word) for word in ("n_nonzero_coefs", "noise_std", "remove_mean")},
            **defence(net, net, denoiser, (X, y), for_test, size, seed),
        }
        if name in size["retrained"]:
            epochs, folder = size["retrained"][name], models / f"{name}_behind_{n_atoms}_seed{seed}"
            behind = trained_network(name, denoiser.transform(X_train), y_train, epochs=epochs, folder=folder)
            row["retrained"] = {"epochs": epochs, **defence(net, behind, denoiser, (X, y), for_test, size, seed)}
        result["atoms"][str(n_atoms)] = row
        print(
            f"  {n_atoms} atoms, {row['rule']}: "
            + ", ".join(f"{kind} restored to {one['restored']:.1%}" for kind, one in row["transfer"].items())
            + ", white box "
            + ", ".join(f"{kind} {one['accuracy']:.1%}" for kind, one in row["white_box"].items())
            + ", retrained "
            + str({kind: one["restored"] for kind, one in row.get("retrained", {}).get("transfer", {}).items()}),
            flush=True,
        )
        if n_atoms == size["atoms"][0]:
            pictures = {kind: (X[:6], X_adv[:6], denoiser.transform(X_adv[:6])) for kind, X_adv in for_test.items()}
    return result, pictures


def draw(pictures, path):
    """Like the paper's figure 9: clean, perturbed and restored, beside each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 2.5), layout="constrained")
    axes = figure.subplots(3, 12, squeeze=False)
    for offset, (kind, rows) in zip((0, 6), pictures.items(), strict=True):
        for line, (label, images) in enumerate(zip(("clean", kind, "restored"), rows, strict=True)):
            for column, image in enumerate(images):
                ax = axes[line, offset + column]
                side = round(image.size**0.5)
                ax.imshow(image.reshape(side, side), cmap="gray", vmin=0, vmax=1)
                ax.set_xticks([])
                ax.set_yticks([])
                if column == 0:
                    ax.set_ylabel(label, fontsize=8)
    figure.savefig(path, dpi=90)


def percent(value):
    return "" if value is None else f"{100 * value:.1f}"


def describe_rule(rule):
    stop = f"K = {rule['n_nonzero_coefs']}" if rule["n_nonzero_coefs"] else f"noise {rule['noise_std']}"
    return stop + (", means apart" if rule["remove_mean"] else "")


def rows_of(networks):
    """Network, atoms, rule and figures of each defence."""
    for name, result in networks.items():
        for n_atoms, row in result["atoms"].items():
            yield name, name, n_atoms, describe_rule(row["rule"]), row
            if "retrained" in row:
                yield name, f"{name}, retrained", n_atoms, describe_rule(row["rule"]), row["retrained"]


def transfer_table(networks):
    """One line a network, number of atoms and attack."""
    head = ["network", "atoms", "rule", "attack", "clean", "clean, denoised", "perturbed", "restored"]
    head += ["restored of those fooled", "PSNR before / after", "SSIM before / after", "paper: perturbed, restored"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for (name, label, n_atoms, rule, row), kind in itertools.product(rows_of(networks), ("FGSM", "JSMA")):
        one, paper = row["transfer"][kind], PAPER[name][kind]
        before, after = one["quality_perturbed"], one["quality_restored"]
        cells = [label, n_atoms, rule, kind]
        cells += [percent(one[word]) for word in ("clean", "clean_denoised", "perturbed", "restored")]
        cells += [percent(one["restored_of_fooled"])]
        for word, digits in (("psnr", 1), ("ssim", 2)):
            cells.append(f"{before[word]:.{digits}f} / {after[word]:.{digits}f}" if before else "")
        cells.append(f"{paper['perturbed']}, {paper['restored']}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def white_box_table(networks):
    """Accuracy where the attacker knows the denoiser, and of the network alone under the same attacks."""
    lines = ["| network | atoms | FGSM | PGD |", "|" + " --- |" * 4]
    for name, result in networks.items():
        alone = result["undefended_white_box"]
        lines.append(f"| {name} | no denoiser | {percent(alone['FGSM'])} | {percent(alone['PGD'])} |")
    for _, label, n_atoms, _, row in rows_of(networks):
        cells = [percent(row["white_box"][kind]["accuracy"]) for kind in ("FGSM", "PGD")]
        lines.append(f"| {label} | {n_atoms} | " + " | ".join(cells) + " |")
    return lines


def load(quick, data_home):
    if quick:
        parts = [load_digits_images(split=part, return_X_y=True) for part in ("train", "test")]
    else:
        parts = [load_mnist(data_home, split=part, return_X_y=True) for part in ("train", "test")]
    return [array for part in parts for array in part]


def earlier_networks(output, content):
    """What an earlier run with the same settings found for other networks."""
    if not output.exists():
        return {}
    earlier = json.loads(output.read_text())
    same = all(earlier.get(word) == json.loads(json.dumps(content[word])) for word in ("data", "settings", "seed"))
    return earlier["networks"] if same else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home", default=None)
    parser.add_argument("--models", default="models", help="folder that keeps the trained networks")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits, few images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=None)
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    output = pathlib.Path(args.output or RESULTS / f"denoising_dictionary{'_quick' * args.quick}.json")
    torch.set_num_threads(1)
    start = time.process_time()
    content = {
        "machine": machine("torch", "scikit-learn", "skorch", "scikit-image"),
        "data": "scikit-learn digits" if args.quick else "MNIST",
        "settings": size,
        "attacks": {kind: attack.describe() for kind, attack in attacks(args.seed).items()},
        "seed": args.seed,
        "paper_percent": PAPER,
    }
    networks = earlier_networks(output, content)
    with threadpool_limits(1, user_api="blas"):
        data = load(args.quick, args.data_home)
        for name in args.networks:
            networks[name], pictures = study(name, data, size, pathlib.Path(args.models), args.seed)
            networks[name]["cpu_seconds"] = time.process_time() - start
            draw(pictures, output.with_suffix(".png"))
            write_json(output, {**content, "networks": networks})
    print("\n".join(transfer_table(networks)))
    print("\n".join(white_box_table(networks)))


if __name__ == "__main__":
    main()
