"""Input of the checks: some images, the model, and the examined evaluation."""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import numpy as np
from sklearn.base import clone

from skrobust.evaluation.report.per_image import at_radius, for_images, is_per_image
from skrobust.evaluation.scoring.robust import module_of, predicted_labels


@dataclass(eq=False, repr=False)
class Probe:
    """A model and an evaluation of it, on a few images that it classifies correctly without attack.

    `eps` is the radius to examine. `attacks` are the attacks of the evaluation, of all threat models. `broken` marks
    the images that its white-box attacks broke at `eps`; None: run them.
    """

    model: object
    X: np.ndarray
    y: np.ndarray
    _: KW_ONLY
    eps: float
    attacks: list
    broken: np.ndarray | None = None
    baseline: object = None
    image_shape: tuple | None = None
    norm: str = "linf"
    clip: tuple | None = (0, 1)
    random_state: int = 0

    @property
    def n(self):
        return len(self.y)

    @cached_property
    def module(self):
        """The model as a torch module with its exact gradients, or None."""
        return module_of(self.model)

    @cached_property
    def baseline_module(self):
        """The baseline as a torch module, or None."""
        return None if self.baseline is None else module_of(self.baseline)

    @cached_property
    def main_attack(self):
        """The last iterated white-box attack of the evaluation, or a plain PGD if it has none."""
        from skrobust.attacks import PGD

        iterated = [
            attack
            for attack in self.attacks
            if attack.threat_model == "white box" and {"n_iter", "random_state", "gradient"} <= set(attack.get_params())
        ]
        if iterated:
            return iterated[-1]
        return PGD(
            norm=self.norm,
            clip=self.clip,
            loss="margin",
            gradient="worst",
            n_restarts=2,
            random_state=self.random_state,
        )

    @cached_property
    def broken_by_white_box(self):
        """Images that any white-box attack of the evaluation breaks at eps."""
        if self.broken is not None:
            return self.broken
        broken = np.zeros(self.n, dtype=bool)
        for attack in [one for one in self.attacks if one.threat_model == "white box"] or [self.main_attack]:
            broken |= self.broken_by(attack, among=~broken)
        return broken

    @cached_property
    def broken_by_main_attack(self):
        """Images that the main attack breaks at eps."""
        return self.broken_by(self.main_attack)

    def broken_by(self, attack, eps=None, among=None):
        """Images that `attack` breaks at `eps`, None: that of the probe.

        Only images in `among` are attacked; the others count as not broken.
        """
        index = np.flatnonzero(np.ones(self.n, bool) if among is None else among)
        broken = np.zeros(self.n, dtype=bool)
        if index.size:
            attack = for_images(at_radius(attack, self.eps if eps is None else eps), index, self.X)
            attacked = attack.perturb(self.model, self.X[index], self.y[index])
            broken[index] = predicted_labels(self.model, np.asarray(attacked)) != self.y[index]
        return broken

    def with_constraints(self, attack):
        """`attack` with the constraints of the main attack: its mask, and its eps if that is an array."""
        main = self.main_attack.get_params()
        constraints = {"mask": main.get("mask")}
        if np.ndim(main.get("eps")) > 0:
            constraints["eps"] = main["eps"]
        return attack.set_params(**constraints)

    def variant(self, **parameters):
        """The main attack with other values of the parameters that it has."""
        own = self.main_attack.get_params()
        return clone(self.main_attack).set_params(**{k: v for k, v in parameters.items() if k in own})

    @property
    def widest_eps(self):
        """Radius of a ball that contains the box of all images; None without a common box."""
        masked = getattr(self.main_attack, "mask", None) is not None
        if self.clip is None or masked or any(is_per_image(bound, self.X.ndim) for bound in self.clip):
            return None
        width = float(np.max(np.asarray(self.clip[1], float) - np.asarray(self.clip[0], float)))
        n_features = self.X[0].size
        return width * {"linf": 1.0, "l2": np.sqrt(n_features), "l1": n_features}[self.norm]
