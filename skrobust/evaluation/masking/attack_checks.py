"""Checks that compare two attacks: the one expected to be weaker must not break more images."""

import numpy as np

from skrobust.evaluation.scoring.robust import same_classes

from .verdict import NotApplicable, masking_check

# Largest share of images that the weaker attack alone may break without a warning, to allow for chance.
TOLERANCE = 0.02


def exceeds_tolerance(share, n):
    """Whether a share of `n` images exceeds the tolerance; a single image never does."""
    # In whole images, because a difference of shares may exceed the tolerance by a rounding error.
    n_images = round(share * n)
    return n_images > 1 and n_images > round(TOLERANCE * n, 9)


@masking_check("black box beats white box")
def check_black_box(probe):
    """Black box beats white box: Square and noise break images that the evaluation's white-box attacks do not.

    An attacker who knows the model can do at least as much as one who does not. Compared image by image.
    """
    from skrobust.attacks import RandomNoise, Square

    params = {"norm": probe.norm, "clip": probe.clip, "random_state": probe.random_state}
    weaker = [RandomNoise(n_restarts=50, **params)]
    if probe.norm in ("linf", "l2"):
        weaker.append(Square(n_iter=500, image_shape=probe.image_shape, **params))
    alone = np.zeros(probe.n, dtype=bool)
    for attack in map(probe.with_constraints, weaker):
        alone |= probe.broken_by(attack, among=~probe.broken_by_white_box & ~alone)
    white, share = probe.broken_by_white_box.mean(), alone.mean()
    return (
        exceeds_tolerance(share, probe.n),
        f"White-box attacks break {white:.0%} of {probe.n} images at eps = {probe.eps:.4g}; "
        f"{_and_names(weaker)} break a further {share:.1%}.",
        {"white_box": white, "black_box_alone": share, "n": probe.n, "eps": probe.eps},
        "The gradients mislead the white-box attacks: add backward passes (gradient='worst'), losses and steps, "
        "and count the black box among the attacks.",
    )


@masking_check("one step beats many")
def check_one_step(probe):
    """One step beats many: FGSM breaks images that the iterated attack does not."""
    from skrobust.attacks import FGSM

    main = probe.main_attack
    loss = getattr(main, "loss", "cross_entropy")
    step = FGSM(
        norm=probe.norm,
        clip=probe.clip,
        gradient=main.gradient,
        loss=loss if loss in ("cross_entropy", "margin", "dlr") else "margin",
    )
    many = probe.broken_by_main_attack
    alone = probe.broken_by(probe.with_constraints(step), among=~many).mean()
    return (
        exceeds_tolerance(alone, probe.n),
        f"{type(main).__name__} breaks {many.mean():.0%} of {probe.n} images; one step breaks a further {alone:.1%}.",
        {"many_steps": many.mean(), "one_step_alone": alone, "n": probe.n, "eps": probe.eps},
        "The iterated attack is too short, its steps are too small, or the loss is too rough: "
        "raise n_iter and n_restarts, or leave step_size to the attack.",
    )


@masking_check("more restarts keep helping")
def check_restarts(probe):
    """More restarts keep helping: the last doubling of random starts still breaks further images."""
    if not getattr(probe.main_attack, "random_start", True):
        raise NotApplicable(f"{type(probe.main_attack).__name__} starts from the image itself, not at random.")
    broken = np.zeros(probe.n, dtype=bool)
    shares = []
    for restart in range(8):
        attack = probe.variant(n_restarts=1, random_state=probe.random_state + 1000 + restart)
        broken |= probe.broken_by(attack, among=~broken)
        shares.append(broken.mean())
    gain = shares[7] - shares[3]
    return (
        exceeds_tolerance(gain, probe.n),
        f"1, 2, 4 and 8 random starts break {shares[0]:.0%}, {shares[1]:.0%}, {shares[3]:.0%} and {shares[7]:.0%} of "
        f"{probe.n} images: the last doubling adds {gain:.1%}.",
        {"restarts": [1, 2, 4, 8], "broken": [shares[k] for k in (0, 1, 3, 7)], "n": probe.n, "eps": probe.eps},
        "Accuracies fall further with more restarts: raise n_restarts until they no longer change.",
    )


@masking_check("transfer from the undefended model beats white box")
def check_transfer(probe):
    """Transfer beats white box: attacks on the undefended baseline break images that white-box attacks do not."""
    if probe.baseline is None:
        raise NotApplicable("Needs a baseline to transfer from: pass baseline=.")
    if probe.baseline_module is None:
        raise NotApplicable("The baseline has no gradients.")
    if not same_classes(probe.model, probe.baseline):
        raise NotApplicable("The baseline has other classes.")
    from skrobust.attacks import Transfer

    transfer = Transfer(probe.main_attack, probe.baseline, stop_at_success=True)
    alone = probe.broken_by(transfer, among=~probe.broken_by_white_box).mean()
    white = probe.broken_by_white_box.mean()
    return (
        exceeds_tolerance(alone, probe.n),
        f"White-box attacks break {white:.0%} of {probe.n} images; transferred from the baseline, "
        f"{type(probe.main_attack).__name__} breaks a further {alone:.1%}.",
        {"white_box": white, "transfer_alone": alone, "n": probe.n, "eps": probe.eps},
        "The defence masks its gradients: attack through other backward passes of the front end.",
    )


@masking_check("identity gradient beats exact gradient")
def check_identity(probe):
    """Identity beats exact: the attack is stronger with the identity (BPDA) than with the true derivative."""
    if not hasattr(probe.model, "predict"):
        raise NotApplicable("A torch network has no skrobust front end whose backward pass could be replaced.")
    exact = probe.broken_by(probe.variant(gradient="exact"))
    alone = probe.broken_by(probe.variant(gradient="identity"), among=~exact)
    both = (exact | alone).mean()
    return (
        exceeds_tolerance(alone.mean(), probe.n),
        f"With exact gradients {type(probe.main_attack).__name__} breaks {exact.mean():.0%} of {probe.n} images; "
        f"with the identity as derivative of each front end, {alone.mean():.1%} more.",
        {"exact": exact.mean(), "identity_alone": alone.mean(), "together": both, "n": probe.n, "eps": probe.eps},
        "Exact gradients alone overestimate the robustness of the front end: "
        "use gradient='worst', as the default attacks do.",
    )


@masking_check("accuracy stays above chance at unbounded eps")
def check_unbounded(probe):
    """Accuracy stays above chance at unbounded eps, although a ball that contains all images allows any change."""
    if probe.widest_eps is None:
        if probe.clip is None:
            raise NotApplicable("Without clip the images are unbounded, so there is no largest eps.")
        raise NotApplicable("With a mask, or a separate box per image, no eps allows every image.")
    accuracy = 1 - probe.broken_by(probe.main_attack, eps=probe.widest_eps).mean()
    chance = np.unique(probe.y, return_counts=True)[1].max() / probe.n
    return (
        accuracy > chance,
        f"At eps = {probe.widest_eps:.4g}, where any image is allowed, {accuracy:.0%} of {probe.n} images survive "
        f"{type(probe.main_attack).__name__}; always predicting the most frequent class would keep {chance:.0%}.",
        {"accuracy": accuracy, "chance": chance, "eps": probe.widest_eps, "n": probe.n},
        "The attack fails: it stops too early, its steps are too small, or its gradients vanish.",
    )


def _and_names(attacks):
    return " and ".join(type(attack).__name__ for attack in attacks)
