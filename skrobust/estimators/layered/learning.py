"""Learning of layered coders: layer by layer from images only, or end to end with labels."""

import math

import numpy as np
from sklearn import get_config

from skrobust.dictionaries import ConvolutionalLearner, initial_convolutional_atoms
from skrobust.estimators.shared.conv_atoms import LEARNING_SWEEPS, LEARNING_TOL
from skrobust.operators import ConvolutionalOperator, LayeredDictionary


def learn_layer_by_layer(
    X, plan, penalties, pursue, *, padding, skip, positive, n_epochs, batch_size, random_state, n_jobs, progress
):
    """Each layer's atoms from the codes of the layers below it: operators, and the mean objective of each layer and
    epoch.

    ``pursue(X, layers)`` returns the codes of all layers so far. With ``batch_size=None`` atoms are updated once per
    pass. ``progress(layer, epoch, objective)`` is called after each epoch.
    """
    operators, objectives, shape = [], [], X.shape[1:]
    for j, layer in enumerate(plan):
        kernel = layer.kernel_on(shape[:-1])
        if j:
            layers = LayeredDictionary(operators, skip)
            samples = _random_samples(X, layers, random_state)
            # The target of the next layer depends on its shapes and connections, but not on its atoms.
            targets = _target(samples, layers, pursue(samples, layers), skip, kernel, padding, layer.stride)
        else:
            targets = X
        atoms = initial_convolutional_atoms(targets, layer.n_components, kernel, random_state=random_state)
        learner = ConvolutionalLearner(
            atoms.astype(X.dtype),
            max(penalties[j], np.finfo(X.dtype).tiny),
            padding=padding,
            stride=layer.stride,
            positive=positive,
            tol=LEARNING_TOL,
            max_iter=LEARNING_SWEEPS,
            random_state=random_state,
            n_jobs=n_jobs,
        )
        objectives.append([])
        for epoch in range(n_epochs):
            if batch_size is None or batch_size >= len(targets):
                learner.epoch(targets)
            else:
                learner.pass_online(targets, batch_size)
            objectives[-1].append(learner.objective)
            progress(j, epoch, learner.objective)
        operators.append(ConvolutionalOperator(learner.components, shape, padding=padding, stride=layer.stride))
        shape = operators[-1].code_shape
    return operators, objectives


def _random_samples(X, layers, random_state):
    """Random signals, as many as have codes within scikit-learn's working memory."""
    bytes_per_sample = 4 * X.itemsize * sum(math.prod(shape) for shape in layers.code_shapes)
    max_samples = max(1, int(get_config()["working_memory"] * 2**20 // bytes_per_sample))
    return X if len(X) <= max_samples else X[np.sort(random_state.choice(len(X), max_samples, replace=False))]


def _target(X, layers, codes, skip, kernel, padding, stride):
    below = layers.operators[-1]
    probe = ConvolutionalOperator(
        np.zeros((1, *kernel, below.code_shape[-1]), dtype=X.dtype), below.code_shape, padding=padding, stride=stride
    )
    return np.ascontiguousarray(LayeredDictionary([*layers.operators, probe], skip).target(layers.n_layers, X, codes))


def learn_with_labels(
    X,
    y,
    plan,
    penalties,
    *,
    padding,
    skip,
    positive,
    pursuit,
    max_iter,
    momentum,
    n_epochs,
    batch_size,
    random_state,
    device,
    verbose,
    training_params,
):
    """Atoms, thresholds and steps by back-propagation through the pursuit, under a linear head: a trained
    `LayeredClassifier` of `skrobust.nn`, on the CPU.
    """
    from skrobust.nn import LayeredPursuit, train_layered

    options = dict(training_params or {})
    module_params = {name: options.pop(name) for name in ("batch_norm", "learn_steps", "unit_norm") if name in options}
    components, shape = [], X.shape[1:]
    for layer in plan:
        kernel = layer.kernel_on(shape[:-1])
        # He's initialisation: rectified linear units preserve the variance of their input.
        scale = math.sqrt(2 / (math.prod(kernel) * shape[-1]))
        atoms = scale * random_state.normal(size=(layer.n_components, *kernel, shape[-1]))
        components.append(atoms)
        shape = ConvolutionalOperator(atoms, shape, padding=padding, stride=layer.stride).code_shape
    module = LayeredPursuit(
        components,
        X.shape[1:],
        pursuit=pursuit,
        alpha=penalties,
        padding=padding,
        stride=[layer.stride for layer in plan],
        skip=skip,
        positive=positive,
        max_iter=max_iter,
        momentum=momentum,
        **module_params,
    )
    settings = {"n_epochs": n_epochs, "random_state": random_state.randint(2**31 - 1), "device": device}
    if batch_size is not None:
        settings["batch_size"] = batch_size
    return train_layered(module, X.astype(np.float32), y, verbose=verbose, **{**settings, **options}).cpu()
