"""What limits the denoising dictionary on the paper's MLP under FGSM: rules beyond those of denoising_dictionary.py.

    SKROBUST_DATA=DIR python benchmarks/reproduce/denoising_dictionary_rules.py --models models   # some minutes

FGSM (eps = 0.3) on the MLP of denoising_dictionary.py, trained for two epochs; all images are *training* images, so
that nothing is chosen on test images. The paper's threat model (transfer): the attack does not know the denoiser. Rules
are stronger noise levels, one atom a patch, larger strides, and the l1 codes that the paper prints; beside them what
needs no dictionary, pixels below one half set to zero and the inverse of the attack's shift; and the MLP trained anew
on denoised images, also with random signs of the attack's size added before.

Writes benchmarks/results/denoising_dictionary_rules.json.
"""

import argparse
import functools
import itertools
import pathlib
import sys

import numpy as np
import torch
from _denoising_networks import trained_network
from denoising_dictionary import EPS, FULL, accuracy, attacks, learned_atoms, load, quality
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import threadpool_limits

from skrobust import PatchDictionaryDenoiser
from skrobust.pursuits import basis_pursuit

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _race import RESULTS, machine, write_json

EPOCHS, N_IMAGES, N_RETRAIN, SIDE = 2, 300, 15000, 8
GREEDY = [{"noise_std": s} for s in (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)]
GREEDY += [{"n_nonzero_coefs": k} for k in (1, 2)]
GREEDY += [{"noise_std": s, "stride": stride} for s, stride in itertools.product((0.3, 0.4), (4, 8))]
ALPHAS = (0.5, 1.0, 2.0, 3.0)
RETRAINED = {"noise_std": 0.3}


def by_l1(X, atoms, alpha):
    """Overlapping patches by basis pursuit, averaged."""
    side = round(X.shape[1] ** 0.5)
    windows = sliding_window_view(X.reshape(-1, side, side), (SIDE, SIDE), axis=(1, 2))
    rows = windows.reshape(-1, SIDE * SIDE).astype(np.float32)
    patches = (basis_pursuit(rows, atoms.astype(np.float32), alpha=alpha, tol=1e-2) @ atoms).reshape(windows.shape)
    total, count = np.zeros((len(X), side, side)), np.zeros((side, side))
    for i, j in itertools.product(range(windows.shape[1]), range(windows.shape[2])):
        total[:, i : i + SIDE, j : j + SIDE] += patches[:, i, j]
        count[i : i + SIDE, j : j + SIDE] += 1
    return np.clip(total / count, 0, 1).reshape(X.shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home", default=None)
    parser.add_argument("--models", default="models", help="folder that keeps the trained networks")
    parser.add_argument("--output", default=RESULTS / "denoising_dictionary_rules.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    X_train, y_train, _, _ = load(False, args.data_home)
    models = pathlib.Path(args.models)
    net = trained_network("MLP", X_train, y_train, epochs=EPOCHS, folder=models)
    attack = attacks(0)["FGSM"]
    X, y = X_train[:N_IMAGES], y_train[:N_IMAGES]
    X_adv = attack.perturb(net, X, y)
    rows = []

    def note(what, restore, behind=net):
        restored, clean = (np.asarray(restore(images), dtype=np.float32) for images in (X_adv, X))
        row = {"what": what, "restored": accuracy(behind, restored, y), "clean": accuracy(behind, clean, y)}
        rows.append(
            {**row, "psnr": quality(X, restored)["psnr"], "psnr_clean": quality(X, clean) and quality(X, clean)["psnr"]}
        )
        print(rows[-1], flush=True)

    note("nothing", lambda images: images)
    note("pixels below 0.5 set to 0", lambda images: images * (images > 0.5))
    note("(x - 0.3) / 0.4, clipped", lambda images: np.clip((images - EPS) / (1 - 2 * EPS), 0, 1))
    for n_atoms, remove_mean in itertools.product((38, 256), (False, True)):
        atoms = learned_atoms(X_train, n_atoms, FULL, remove_mean, 0).components_
        params = {"dictionary": atoms, "remove_mean": remove_mean, "clip": (0, 1), "image_shape": (28, 28)}
        apart = ", means apart" if remove_mean else ""
        for rule in GREEDY:
            denoiser = PatchDictionaryDenoiser(patch_size=SIDE, **params, **rule).fit(X[:1])
            note(f"{n_atoms} atoms{apart}, {rule}", denoiser.transform)
        if not remove_mean:
            for alpha in ALPHAS:
                note(f"{n_atoms} atoms, l1 codes, alpha {alpha}", functools.partial(by_l1, atoms=atoms, alpha=alpha))
            denoiser = PatchDictionaryDenoiser(patch_size=SIDE, **params, **RETRAINED).fit(X[:1])
            some, signs = (
                X_train[:N_RETRAIN],
                np.random.default_rng(0).choice(np.float32([-EPS, EPS]), (N_RETRAIN, 784)),
            )
            cleaned, labels = denoiser.transform(some), y_train[:N_RETRAIN]
            noisy = denoiser.transform(np.clip(some + signs, 0, 1).astype(np.float32))
            for name, images, answers in (
                ("denoised images", cleaned, labels),
                ("denoised images with and without random signs", np.concatenate([noisy, cleaned]), np.tile(labels, 2)),
            ):
                folder = models / f"rules_{n_atoms}_{len(images)}"
                behind = trained_network("MLP", images, answers, epochs=EPOCHS, folder=folder)
                note(f"{n_atoms} atoms, {RETRAINED}, MLP trained anew on {name}", denoiser.transform, behind)
    content = {
        "machine": machine("torch", "scikit-learn", "skorch"),
        "epochs": EPOCHS,
        "n": N_IMAGES,
        "images": "training",
    }
    content |= {"n_retrain": N_RETRAIN, "seed": 0, "attack": attack.describe(), "rows": rows}
    write_json(pathlib.Path(args.output), content)


if __name__ == "__main__":
    with threadpool_limits(1, user_api="blas"):
        main()
