"""The attacks of a report whose user names none."""

from sklearn.base import BaseEstimator, clone

# Rival classes of the strongest attack, at most: as many as AutoAttack's.
_N_TARGETS = 9


def default_attacks(norm="linf", *, clip=(0, 1), random_state=0):
    """Attacks that a report runs by default.

    One step and many, with every backward pass of the front ends; the locally linear attacks of the front-end paper,
    that know the front end or do not; noise, which no honest defence minds more than an attack; and `strongest_attack`.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}, default="linf"
    clip : pair or None, default=(0, 1)
        Range of valid values.
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    list of attack
        The last one is the attack that transfers and that the masking checks vary: PGD on the margin.

    Notes
    -----
    An image leaves an attack once it is lost. One that survives all costs, with K classes and R = min(K - 1, 9), for
    each backward pass of the front ends (one without front ends, else four): 122 forward and backward passes for FGSM
    and PGD, and those of `strongest_attack`.
    """
    from skrobust import attacks as room

    words = {"norm": norm, "clip": clip, "random_state": random_state}
    return [
        room.RandomNoise(**words),
        room.SemiWhiteBox(**words),
        room.FGSM(gradient="worst", **words),
        room.WhiteBox(**words),
        room.PGD(n_iter=40, gradient="worst", **words),
        strongest_attack(norm, clip=clip, random_state=random_state),
        # On linear classifiers of several classes the margin finds far more than cross-entropy does.
        room.PGD(n_iter=40, n_restarts=2, loss="margin", gradient="worst", **words),
    ]


def strongest_attack(norm="linf", *, clip=(0, 1), random_state=0):
    """Iterated attacks on one rival class after the other, each on the images that those before it left.

    The iterative locally linear attack takes most images soonest; APGD on the targeted DLR loss starts elsewhere and
    sets its own steps. With fewer than four classes the DLR loss is the difference of two scores.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}, default="linf"
        APGD has no l1 form: there the locally linear attack is longer, and FAB follows it.
    clip : pair or None, default=(0, 1)
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    Cascade

    Notes
    -----
    An image that survives costs, with R = min(n_classes - 1, 9), for each backward pass of the front ends
    71 R forward and backward passes.
    """
    from skrobust import attacks as room

    targets = {"n_targets": _N_TARGETS}
    if norm == "l1":
        parts = [room.IterativeLocallyLinear(n_iter=40, **targets), room.FAB(n_iter=30, **targets)]
    else:
        parts = [
            room.IterativeLocallyLinear(n_iter=20, **targets),
            room.APGD(n_iter=50, loss="targeted_dlr", **targets),
        ]
    return room.Cascade(norm=norm, attacks=parts, gradient="worst", clip=clip, random_state=random_state)


def black_box_attacks(norm="linf", *, clip=(0, 1), random_state=0, image_shape=None):
    """Attacks that a report runs by default on models without gradients.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}, default="linf"
        Square has no l1 form: there, noise is alone.
    clip : pair or None, default=(0, 1)
    random_state : int, RandomState instance or None, default=0
    image_shape : tuple of int or None, default=None
        Height, width and channels of flattened images.

    Returns
    -------
    list of attack

    Notes
    -----
    An image that survives costs 2500 queries.
    """
    from skrobust import attacks as room

    words = {"norm": norm, "clip": clip, "random_state": random_state}
    noise = room.RandomNoise(**words)
    return [noise] if norm == "l1" else [noise, room.Square(n_iter=2500, image_shape=image_shape, **words)]


class Transferred(BaseEstimator):
    """An attack made on one model and tried on another.

    Parameters
    ----------
    attack : attack
    source : fitted classifier
        The model that the attacker has.
    source_name : str
    eps : float or None, default=None
        Replaces the attack's.
    """

    threat_model = "transfer"

    def __init__(self, attack, source, source_name, eps=None):
        self.attack = attack
        self.source = source
        self.source_name = source_name
        self.eps = eps

    @property
    def norm(self):
        return self.attack.norm

    @property
    def clip(self):
        return self.attack.clip

    def perturb(self, model, X, y):
        """`X` attacked for the source; `model` is not looked at."""
        attack = self.attack if self.eps is None else clone(self.attack).set_params(eps=self.eps)
        return attack.perturb(self.source, X, y)

    def __sklearn_clone__(self):
        # The source stays fitted.
        return Transferred(clone(self.attack), self.source, self.source_name, self.eps)

    def describe(self):
        """The attack's settings, its threat model and source."""
        settings = self.attack.describe()
        return {**settings, "name": f"{settings['name']} on {self.source_name}", "threat_model": self.threat_model}
