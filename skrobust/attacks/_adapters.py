"""Attacks of other libraries, run on any fitted classifier or Pipeline through `perturb`."""

import inspect
import math

import torch

from ._outside import ORDERS, OutsideAttack

# Attacks of ART that take the labels for targets, and draw targets where there are no labels.
_ALWAYS_TARGETED = {"SaliencyMapMethod"}


class FromART(OutsideAttack):
    """Any evasion attack of the Adversarial Robustness Toolbox.

    Parameters
    ----------
    attack : str or type
        A class of ``art.attacks.evasion`` or its name, such as "ProjectedGradientDescent".
    options : dict or None, default=None
        Arguments of that class, such as ``{"max_iter": 40}``. Where they leave it open, `eps` and `norm` are the
        adapter's, ``eps_step`` is at most `eps`, and ``batch_size``, unless it is 1 by default, is all images of the
        batch; the rest is ART's.
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`, the images of each radius in a run of their
        own. Infinity, for attacks that look for the nearest adversarial image: the nearest that was found.
    norm : {"linf", "l2", "l1"}, default="linf"
    image_shape : tuple or None, default=None
        ``(height, width)`` or ``(height, width, n_channels)`` of images that come as rows of a 2-D X, for attacks
        that need images, such as "SquareAttack". ART is shown ``(n_samples, n_channels, height, width)``.
    gradient : {"exact", "identity", "projection", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `PGD`. Attacks that need no gradient are run on the model's answers, on any
        classifier.
    clip : pair or None, default=(0, 1)
        Range of valid values, see `PGD`. None: no bounds.
    mask : array-like of bool or None, default=None
        Features that may change, see `PGD`.
    perturb_all : bool, default=False
        Attack images that the model gets wrong already, too, see `PGD`.
    batch_size : int or None, default=None
        The library's draws depend on it.
    random_state : int, RandomState instance or None, default=None
        Seeds the generators of torch, NumPy and Python, which are restored afterwards. A few attacks, such as ART's
        HopSkipJump, draw from a generator of their own as well, which no seed reaches.
    device : str, torch.device or None, default=None
    verbose : int, default=0

    Raises
    ------
    ImportError
        On the first use, if ART is not installed. The extra "bench" has it.

    Examples
    --------
    >>> from skrobust.attacks import FromART
    >>> FromART("HopSkipJump", {"max_iter": 10}, norm="l2").threat_model
    'black box'
    """

    _library = "ART"
    _package = "adversarial-robustness-toolbox"
    _namespace = "art.attacks.evasion"
    _gradient_free = frozenset(
        {
            "BoundaryAttack",
            "GRAPHITEBlackbox",
            "GeoDA",
            "HopSkipJump",
            "PixelAttack",
            "SignOPTAttack",
            "SimBA",
            "SpatialTransformation",
            "SquareAttack",
            "ThresholdAttack",
            "ZooAttack",
        }
    )

    def _generate(self, model, x, goal, n_classes, eps):
        cls = self._attack_class()
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            model=model,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=n_classes,
            clip_values=self._bounds(),
            device_type="gpu" if x.is_cuda else "cpu",
        )
        defaults = {word: taken.default for word, taken in inspect.signature(cls.__init__).parameters.items()}
        words = self._arguments(
            cls,
            eps=eps,
            norm=ORDERS[self.norm],
            eps_step=min(eps, defaults.get("eps_step", eps)),
            batch_size=1 if defaults.get("batch_size") == 1 else len(x),
            targeted=goal.targeted,
            verbose=bool(self.verbose),
        )
        labels = torch.nn.functional.one_hot(goal.label, n_classes).cpu().numpy()
        if cls.__name__ in _ALWAYS_TARGETED:
            labels = labels if goal.targeted else None
        elif goal.targeted and "targeted" not in defaults:
            raise ValueError(f"{cls.__name__} of ART cannot aim at y_target.")
        return cls(classifier, **words).generate(x.cpu().numpy(), y=labels)


class FromFoolbox(OutsideAttack):
    """Any attack of foolbox.

    Parameters
    ----------
    attack : str or type
        A class of ``foolbox.attacks`` or its name, such as "LinfPGD".
    options : dict or None, default=None
        Arguments of that class, such as ``{"steps": 40}``.
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`, the images of each radius in a run of their
        own. Infinity, for attacks that look for the nearest adversarial image: the nearest that was found.
    norm : {"linf", "l2", "l1"}, default="linf"
        The attack's own, where it has one.
    image_shape : tuple or None, default=None
        ``(height, width)`` or ``(height, width, n_channels)`` of images that come as rows of a 2-D X, for attacks
        that need images. foolbox is shown ``(n_samples, n_channels, height, width)``.
    gradient, clip, mask, perturb_all, batch_size, random_state, device, verbose
        As in `FromART`.

    Raises
    ------
    ImportError
        On the first use, if foolbox is not installed. The extra "bench" has it.

    Examples
    --------
    >>> from skrobust.attacks import FromFoolbox
    >>> FromFoolbox("LinfPGD", {"steps": 40}, eps=0.2).describe()["name"]
    'foolbox LinfPGD'
    """

    _library = "foolbox"
    _package = "foolbox"
    _namespace = "foolbox.attacks"
    _gradient_free = frozenset(
        {
            "BinarizationRefinementAttack",
            "BinarySearchContrastReductionAttack",
            "BoundaryAttack",
            "DatasetAttack",
            "GaussianBlurAttack",
            "GenAttack",
            "HopSkipJumpAttack",
            "InversionAttack",
            "L2AdditiveGaussianNoiseAttack",
            "L2AdditiveUniformNoiseAttack",
            "L2ClippingAwareAdditiveGaussianNoiseAttack",
            "L2ClippingAwareAdditiveUniformNoiseAttack",
            "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack",
            "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack",
            "L2ContrastReductionAttack",
            "L2RepeatedAdditiveGaussianNoiseAttack",
            "L2RepeatedAdditiveUniformNoiseAttack",
            "LinearSearchBlendedUniformNoiseAttack",
            "LinearSearchContrastReductionAttack",
            "LinfAdditiveUniformNoiseAttack",
            "LinfRepeatedAdditiveUniformNoiseAttack",
            "PointwiseAttack",
            "SaltAndPepperNoiseAttack",
            "SpatialAttack",
        }
    )

    def _generate(self, model, x, goal, n_classes, eps):
        cls = self._attack_class()
        from foolbox import PyTorchModel
        from foolbox.criteria import Misclassification, TargetedMisclassification
        from foolbox.distances import LpDistance

        distance = LpDistance(ORDERS[self.norm])
        attack = cls(**self._arguments(cls, distance=distance, constraint=self.norm))
        own = getattr(getattr(attack, "distance", distance), "p", distance.p)
        if own != distance.p:
            raise ValueError(f"norm={self.norm!r}, but {cls.__name__} of foolbox is an attack in l{own}.")
        # Without bounds foolbox has no scale for its starts: what the images and the ball span.
        reach = eps if math.isfinite(eps) else 1.0
        bounds = self._bounds() or (float(x.min()) - reach, float(x.max()) + reach)
        criterion = (TargetedMisclassification if goal.targeted else Misclassification)(goal.label)
        epsilons = eps if math.isfinite(eps) else None
        return attack(PyTorchModel(model, bounds, device=x.device), x, criterion, epsilons=epsilons)[1]


class FromTorchattacks(OutsideAttack):
    """Any attack of torchattacks, which knows images in [0, 1] only.

    Parameters
    ----------
    attack : str or type
        A class of ``torchattacks`` or its name, such as "PGD".
    options : dict or None, default=None
        Arguments of that class, such as ``{"steps": 40, "alpha": 0.01}``. Where they leave it open, ``eps``, ``norm``,
        ``n_classes`` and ``seed`` are the adapter's; the rest, step sizes too, is torchattacks'.
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`, the images of each radius in a run of their
        own. Infinity, for attacks that look for the nearest adversarial image: the nearest that was found.
    norm : {"linf", "l2", "l1"}, default="linf"
        The attack's own, where it has one.
    image_shape : tuple or None, default=None
        ``(height, width)`` or ``(height, width, n_channels)`` of images that come as rows of a 2-D X, for attacks
        that need images. torchattacks is shown ``(n_samples, n_channels, height, width)``.
    clip : pair, default=(0, 1)
        Within [0, 1].
    gradient, mask, perturb_all, batch_size, random_state, device, verbose
        As in `FromART`.

    Raises
    ------
    ImportError
        On the first use, if torchattacks is not installed. No extra has it: it pins an old release of requests and
        asks for torchvision, which it does not use, so ``pip install --no-deps torchattacks``.

    Examples
    --------
    >>> from skrobust.attacks import FromTorchattacks
    >>> FromTorchattacks("Square", eps=0.2, image_shape=(28, 28)).threat_model
    'black box'
    """

    _library = "torchattacks"
    _package = "torchattacks"
    _install = "--no-deps torchattacks"
    _namespace = "torchattacks"
    _gradient_free = frozenset({"GN", "OnePixel", "Pixle", "SPSA", "Square", "VANILA"})

    def _generate(self, model, x, goal, n_classes, eps):
        cls = self._attack_class()
        bounds = self._bounds()
        if bounds is None or bounds[0] < 0 or bounds[1] > 1:
            raise ValueError(
                f"torchattacks knows images in [0, 1] only, but clip={self.clip!r}. Scale X inside the Pipeline."
            )
        words = self._arguments(
            cls,
            eps=eps,
            norm=self.norm.replace("l", "L", 1),
            n_classes=n_classes,
            seed=int(torch.randint(2**31 - 1, (1,))),
        )
        attack = cls(model, **words)
        if goal.targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        return attack(x, goal.label)
