"""The default attacks of a report."""

# Maximum number of other classes that the strongest attack targets, as in AutoAttack.
_N_TARGETS = 9


def default_attacks(norm="linf", *, clip=(0, 1), random_state=0, thorough=True):
    """Attacks that a report runs by default.

    FGSM and PGD with every backward pass of the front ends; the semi-white and white-box locally linear attacks of the
    front-end paper; noise; and, if `thorough`, `strongest_attack`, which takes most of the time. The last one, PGD on
    the margin, is also used for transfer and for the masking checks.

    Broken images are not attacked further. A surviving image costs 122 forward and backward passes for FGSM and PGD,
    plus those of `strongest_attack`, for each backward pass of the front ends (four, or one without front ends).
    """
    from skrobust import attacks

    shared = {"norm": norm, "clip": clip, "random_state": random_state}
    return [
        attacks.RandomNoise(**shared),
        attacks.SemiWhiteBox(**shared),
        attacks.FGSM(gradient="worst", **shared),
        attacks.WhiteBox(**shared),
        attacks.PGD(n_iter=40, gradient="worst", **shared),
        *([strongest_attack(norm, clip=clip, random_state=random_state)] if thorough else []),
        # On linear classifiers of several classes the margin loss is far stronger than cross-entropy.
        attacks.PGD(n_iter=40, n_restarts=2, loss="margin", gradient="worst", **shared),
    ]


def strongest_attack(norm="linf", *, clip=(0, 1), random_state=0):
    """Iterated attacks that target each other class in turn, each on the images that survived the previous ones.

    The iterative locally linear attack is fastest; APGD on the targeted DLR loss uses other starting points and adapts
    its steps; FAB minimises the distance, and finds images that both miss behind calibrated probabilities. With fewer
    than four classes the DLR loss is the difference of two scores. APGD has no l1 form: there the locally linear attack
    is longer.

    A surviving image costs 101 R forward and backward and 30 R forward passes, with R = min(n_classes - 1, 9), for each
    backward pass of the front ends.
    """
    from skrobust import attacks

    targets = {"n_targets": _N_TARGETS}
    parts = [attacks.IterativeLocallyLinear(n_iter=40 if norm == "l1" else 20, **targets)]
    if norm != "l1":
        parts.append(attacks.APGD(n_iter=50, loss="targeted_dlr", **targets))
    parts.append(attacks.FAB(n_iter=30, **targets))
    return attacks.Cascade(norm=norm, attacks=parts, gradient="worst", clip=clip, random_state=random_state)


def black_box_attacks(norm="linf", *, clip=(0, 1), random_state=0, image_shape=None):
    """Attacks that a report runs by default on models without gradients; a surviving image costs 2500 queries.

    Square has no l1 form: with "l1" only noise is used.
    """
    from skrobust import attacks

    shared = {"norm": norm, "clip": clip, "random_state": random_state}
    noise = attacks.RandomNoise(**shared)
    return [noise] if norm == "l1" else [noise, attacks.Square(n_iter=2500, image_shape=image_shape, **shared)]
