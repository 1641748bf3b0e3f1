"""Every converter against scikit-learn itself: scores, probabilities, predictions."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import sklearn
import torch
from sklearn import linear_model, naive_bayes, preprocessing
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis, FastICA, IncrementalPCA, KernelPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, SelectKBest, VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.utils.fixes import parse_version

from skrobust.bridge import NoGradientError, as_module

LR = linear_model.LogisticRegression
LDA = LinearDiscriminantAnalysis
SCALER = preprocessing.StandardScaler


def NB(smoothing=1e-2):
    # With the default smoothing, constant pixels give likelihoods of 1e9, whose sums do not agree to 1e-9.
    return naive_bayes.GaussianNB(var_smoothing=smoothing)


def images(n_classes):
    X, y = load_digits(return_X_y=True)
    X, y = X[y < n_classes][:240, 18:46] / 16, y[y < n_classes][:240]
    return X[:160], y[:160], X[160:] + np.random.default_rng(0).normal(scale=0.2, size=X[160:].shape)


LABELS = {
    "encoded": lambda y: y,
    "int": lambda y: y * 3 - 4,
    "str": lambda y: np.array(["dog", "cat", "eel", "bee"])[y],
    "object": lambda y: np.array(["dog", "cat", "eel", "bee"], dtype=object)[y],
    "bool": lambda y: y == 1,
}

CLASSIFIERS = {
    "LinearSVC": LinearSVC(),
    "LogisticRegression": LR(),
    "LogisticRegressionCV": linear_model.LogisticRegressionCV(Cs=2, cv=2),
    "SGD hinge": linear_model.SGDClassifier(random_state=0),
    "SGD log": linear_model.SGDClassifier(loss="log_loss", random_state=0),
    "SGD huber": linear_model.SGDClassifier(loss="modified_huber", random_state=0),
    "SGD sparse": linear_model.SGDClassifier(penalty="l1", random_state=0),
    "Ridge": linear_model.RidgeClassifier(),
    "RidgeCV": linear_model.RidgeClassifierCV(),
    "Perceptron": linear_model.Perceptron(random_state=0),
    "LDA svd": LDA(),
    "LDA lsqr": LDA(solver="lsqr", shrinkage="auto"),
    "LDA as a step": make_pipeline(LDA(), SVC()),
    "LDA eigen as a step": make_pipeline(LDA(solver="eigen", n_components=1, shrinkage=0.1), LR()),
    "QDA": QuadraticDiscriminantAnalysis(reg_param=0.1),
    "GaussianNB": NB(),
    "MultinomialNB": make_pipeline(preprocessing.MinMaxScaler(clip=True), naive_bayes.MultinomialNB()),
    "ComplementNB": make_pipeline(preprocessing.MinMaxScaler(clip=True), naive_bayes.ComplementNB(norm=True)),
    "BernoulliNB": make_pipeline(preprocessing.MinMaxScaler(), naive_bayes.BernoulliNB(binarize=None)),
    **{
        f"SVC {kernel} {shape}": SVC(kernel=kernel, decision_function_shape=shape, coef0=0.3, C=2.0)
        for kernel in ("linear", "rbf", "poly", "sigmoid")
        for shape in ("ovr", "ovo")
    },
    "SVC break_ties": SVC(break_ties=True, C=0.05),
    "SVC gamma": SVC(gamma=0.7, class_weight="balanced"),
    "SVC probability": SVC(probability=True, random_state=0),
    "NuSVC": NuSVC(nu=0.2),
    "NuSVC linear probability": NuSVC(nu=0.2, kernel="linear", probability=True, random_state=0),
    **{
        f"MLP {activation}": MLPClassifier((9, 7), activation=activation, max_iter=30, random_state=0)
        for activation in ("identity", "logistic", "tanh", "relu")
    },
    "OvR decision": OneVsRestClassifier(LinearSVC()),
    "OvR proba": OneVsRestClassifier(NB()),
    "OvR both": OneVsRestClassifier(LR()),
    "OvO decision": OneVsOneClassifier(LinearSVC()),
    "OvO proba": OneVsOneClassifier(NB()),
    "OutputCode": OutputCodeClassifier(LR(), code_size=3, random_state=0),
    "OutputCode proba": OutputCodeClassifier(NB(), code_size=3, random_state=0),
    "Calibrated sigmoid": CalibratedClassifierCV(LinearSVC(), cv=3),
    "Calibrated sigmoid proba": CalibratedClassifierCV(NB(), cv=3, ensemble=False),
    "Calibrated isotonic": CalibratedClassifierCV(LinearSVC(), method="isotonic", cv=3),
    "Calibrated isotonic proba": CalibratedClassifierCV(NB(5.0), method="isotonic", cv=3),
    "Voting": VotingClassifier([("lr", LR()), ("out", "drop"), ("nb", NB())], voting="soft", weights=[2, 5, 1]),
    "Voting as a step": make_pipeline(VotingClassifier([("lr", LR()), ("lda", LDA())], voting="soft"), LinearSVC()),
    "Stacking": StackingClassifier([("svc", LinearSVC()), ("nb", NB())], cv=3),
    "Stacking passthrough": StackingClassifier(
        [("lr", LR()), ("out", "drop"), ("svc", SVC())], final_estimator=LinearSVC(), passthrough=True, cv=3
    ),
    "Stacking as a step": make_pipeline(StackingClassifier([("lr", LR())], cv=3), LR()),
    "Bagging": BaggingClassifier(LR(), n_estimators=4, max_features=0.5, bootstrap_features=True, random_state=0),
    "Bagging proba only": BaggingClassifier(NB(), n_estimators=3, random_state=0),
    "GridSearch": GridSearchCV(make_pipeline(SCALER(), LinearSVC()), {"linearsvc__C": [0.1, 1]}, cv=2),
    "RandomizedSearch": RandomizedSearchCV(LR(), {"C": [0.1, 1]}, n_iter=1, cv=2, random_state=0),
    "HalvingSearch": HalvingGridSearchCV(SVC(), {"C": [0.1, 1]}, cv=2, random_state=0),
    "RFE": RFE(LR(), n_features_to_select=9),
    "RFE as a step": make_pipeline(RFE(LR(), n_features_to_select=9), LinearSVC()),
    "nested Pipeline": make_pipeline(make_pipeline(SCALER(), None), "passthrough", make_pipeline(PCA(5), SVC())),
}
if parse_version(sklearn.__version__) >= parse_version("1.8"):
    CLASSIFIERS["Calibrated temperature"] = CalibratedClassifierCV(LinearSVC(), method="temperature", cv=3)
    CLASSIFIERS["Calibrated temperature proba"] = CalibratedClassifierCV(NB(5.0), method="temperature", cv=3)
if hasattr(linear_model, "PassiveAggressiveClassifier"):
    CLASSIFIERS["PassiveAggressive"] = linear_model.PassiveAggressiveClassifier(random_state=0)
BINARY = {
    "FixedThreshold": FixedThresholdClassifier(LR(), threshold=0.8),
    "FixedThreshold decision": FixedThresholdClassifier(LinearSVC(), threshold=0.3),
    "TunedThreshold": TunedThresholdClassifierCV(LR(), cv=3),
    "liblinear": LR(solver="liblinear"),
}
if "multi_class" in LR().get_params():
    BINARY["multinomial"] = LR(multi_class="multinomial")
    CLASSIFIERS["LR ovr"] = LR(multi_class="ovr")
    CLASSIFIERS["LR liblinear"] = LR(solver="liblinear")
CASES = [(name, classes, "int") for name in CLASSIFIERS for classes in (2, 4)]
CASES += [(name, 4, "str") for name in CLASSIFIERS] + [(name, 2, "bool") for name in BINARY]
CASES += [(name, 2, kind) for name in ("SVC rbf ovr", "LogisticRegression", "Voting") for kind in ("object", "bool")]


def fitted(name, n_classes, kind):
    X, y, X_new = images(n_classes)
    model = {**CLASSIFIERS, **BINARY}[name]
    if "temperature" in name and kind == "int":
        # scikit-learn 1.9.1 takes the labels themselves for positions in fit, and reads beyond its arrays.
        kind = "encoded"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, LABELS[kind](y))
    if name == "SGD sparse":
        model.sparsify()
    return model, X_new


def assert_close(actual, expected, tol):
    """Equal to within rounding relative to the largest value: `tol` is 1e-9 in float64 and 1e-4 in float32."""
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=0, atol=tol * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(("name", "n_classes", "kind"), CASES)
def test_classifier_is_reproduced(name, n_classes, kind):
    model, X = fitted(name, n_classes, kind)
    module = as_module(model)
    X_t = torch.tensor(X)
    scores = module(X_t)
    assert scores.shape == (len(X), n_classes)
    predictions = model.predict(X)
    np.testing.assert_array_equal(module.predict(X_t), predictions)
    assert module.predict(X_t).dtype == predictions.dtype
    np.testing.assert_array_equal(module.classes_, model.classes_)
    assert hasattr(module, "predict_proba") == hasattr(model, "predict_proba")
    if hasattr(model, "predict_proba"):
        assert_close(module.predict_proba(X_t), model.predict_proba(X), 1e-9)
    if hasattr(model, "decision_function"):
        assert_close(module.decision_function(X_t), model.decision_function(X), 1e-9)
    np.testing.assert_array_equal(model.classes_[scores.argmax(1)], predictions)

    single = as_module(model, dtype="float32")
    if hasattr(model, "predict_proba"):
        assert_close(single.predict_proba(X_t), model.predict_proba(X), 1e-4)
    elif hasattr(model, "decision_function") and "SVC" not in name:  # a vote may change sides in float32
        assert_close(single.decision_function(X_t), model.decision_function(X), 1e-4)
    # In float32 predictions at ties, as of votes, may change.
    np.testing.assert_allclose(np.mean(single.predict(X_t) == predictions), 1, atol=0.05)


# Scores that count votes, or stairs: their backward pass is another function's, tested further below.
NO_SLOPE = ["SVC", "OvO", "HalvingSearch", "nested", "LDA as a step", "isotonic", "Stacking passthrough"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_gradient_is_the_derivative(name):
    """Against central differences of the module itself, which equals scikit-learn by the test above."""
    model, X = fitted(name, 4, "int")
    module = as_module(model)
    X_t = torch.tensor(X[:20], requires_grad=True)
    direction = torch.tensor(np.random.default_rng(1).normal(size=X_t.shape))
    smooth = not any(word in name for word in NO_SLOPE) or "LinearSVC" in name
    outputs = [module] if smooth else []
    if hasattr(module, "predict_proba") and "isotonic" not in name and name != "Stacking passthrough":
        outputs.append(module.predict_proba)
    for output in outputs:
        weights = torch.tensor(np.random.default_rng(2).normal(size=(20, 4)))
        numeric = (central_differences(output, X_t, direction) * weights).sum(1)
        error = (along(output(X_t), X_t, direction, weights) - numeric).abs() / (1 + numeric.abs())
        # Kinks and the stopping rule of pairwise coupling may fall between the two points of a sample.
        assert (error < 1e-5).float().mean() >= 0.85
        assert error.median() < 1e-6


TRANSFORMERS = {
    "standard": SCALER(),
    "standard without mean": SCALER(with_mean=False),
    "standard without std": SCALER(with_std=False),
    "minmax": preprocessing.MinMaxScaler((-1, 2)),
    "minmax clip": preprocessing.MinMaxScaler(clip=True),
    "maxabs": preprocessing.MaxAbsScaler(),
    "robust": preprocessing.RobustScaler(),
    "robust scale only": preprocessing.RobustScaler(with_centering=False),
    "robust center only": preprocessing.RobustScaler(with_scaling=False),
    "l1": preprocessing.Normalizer("l1"),
    "l2": preprocessing.Normalizer("l2"),
    "max": preprocessing.Normalizer("max"),
    "PCA": PCA(5),
    "PCA whitened": PCA(0.9, whiten=True),
    "IncrementalPCA": IncrementalPCA(3, whiten=True),
    "TruncatedSVD": TruncatedSVD(4, random_state=0),
    "FastICA": FastICA(4, random_state=0, whiten="unit-variance"),
    "FactorAnalysis": FactorAnalysis(3, random_state=0),
    "GaussianRandomProjection": GaussianRandomProjection(6, random_state=0),
    "SparseRandomProjection": SparseRandomProjection(6, random_state=0),
    "SelectKBest": SelectKBest(k=5),
    "VarianceThreshold": VarianceThreshold(0.02),
    "polynomial": preprocessing.PolynomialFeatures(3),
    "interactions": preprocessing.PolynomialFeatures((2, 2), interaction_only=True, include_bias=False),
    "RBFSampler": RBFSampler(n_components=9, random_state=0),
    "Nystroem": Nystroem(n_components=7, random_state=0),
    "Nystroem poly": Nystroem("poly", gamma=0.2, degree=2, n_components=7, random_state=0),
    "KernelPCA rbf": KernelPCA(4, kernel="rbf"),
    "KernelPCA linear": KernelPCA(4),
    "KernelPCA sigmoid": KernelPCA(4, kernel="sigmoid", gamma=0.05),
    "identity": preprocessing.FunctionTransformer(),
    "ufunc": preprocessing.FunctionTransformer(np.square),
    "lambda": preprocessing.FunctionTransformer(lambda X, power: X**power - X[:, :1], kw_args={"power": 3}),
    "LDA": make_pipeline(LDA(n_components=2), "passthrough"),
    "frozen": FrozenEstimator(SCALER().fit(images(4)[0])),
    "Pipeline": make_pipeline(SCALER(), PCA(3)),
    "union": FeatureUnion(
        [("pca", PCA(3)), ("all", "passthrough"), ("none", "drop"), ("scaled", SCALER())],
        transformer_weights={"pca": 3.0, "scaled": 0.5},
    ),
    "columns": ColumnTransformer(
        [
            ("pca", PCA(2), [3, 1, -1, 5]),
            ("scaled", SCALER(), slice(6, 12)),
            ("mask", preprocessing.Normalizer(), np.arange(28) % 3 == 2),
            ("empty", SCALER(), []),
            ("same", "passthrough", [0]),
            ("out", "drop", [13, 14]),
        ],
        remainder=preprocessing.MinMaxScaler(),
        transformer_weights={"mask": 2.0},
    ),
    "columns, rest dropped": ColumnTransformer([("one", SCALER(), [2])]),
    "columns, rest kept": ColumnTransformer([("one", SCALER(), [2])], remainder="passthrough"),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformer_is_reproduced(name):
    X, y, X_new = images(4)
    X_new[0] = 0
    transformer = TRANSFORMERS[name].fit(X, y)
    module = as_module(transformer)
    expected = transformer.transform(X_new)
    assert_close(module(torch.tensor(X_new)), expected, 1e-9)
    assert_close(as_module(transformer, dtype="float32")(torch.tensor(X_new)), expected, 1e-4)
    X_t = torch.tensor(X_new[:3], requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(module(X_t).sum(), X_t)[0]).all()
    if name != "max":  # not differentiable where several features share the largest magnitude
        X_t = torch.tensor(X_new[1:3], requires_grad=True)
        assert torch.autograd.gradcheck(module, X_t, atol=1e-6)


def test_modules_can_be_pickled_and_copied():
    model, X = fitted("Stacking passthrough", 4, "int")
    module = as_module(model)
    X_t = torch.tensor(X)
    for same in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(same(X_t), module(X_t))


def test_columns_of_dataframes():
    pd = pytest.importorskip("pandas")
    X, y, X_new = images(4)
    frame = pd.DataFrame(X, columns=[f"p{i}" for i in range(28)])
    transformer = ColumnTransformer(
        [
            ("names", SCALER(), ["p7", "p2"]),
            ("slice", SCALER(with_mean=False), slice("p20", "p23")),
            ("pattern", PCA(2), make_column_selector(pattern="p1.")),
        ],
        remainder="passthrough",
    )
    model = make_pipeline(transformer, LR()).fit(frame, y)
    expected = model.decision_function(pd.DataFrame(X_new, columns=frame.columns))
    assert_close(as_module(model).decision_function(torch.tensor(X_new)), expected, 1e-9)


@pytest.mark.parametrize("name", [*CLASSIFIERS, *TRANSFORMERS])
def test_module_moves_as_a_whole(name):
    """The meta device computes nothing, but reveals tensors left on the CPU."""
    X, y, _ = images(4)
    if name in CLASSIFIERS:
        if "OvO" in name:
            pytest.skip("takes predictions to NumPy, of which a meta tensor has none")
        model, _ = fitted(name, 4, "int")
    else:
        model = TRANSFORMERS[name].fit(X, y)
    module = as_module(model)
    shape = module(torch.tensor(X)).shape
    output = module.to("meta")(torch.tensor(X))
    assert output.device.type == "meta" and output.shape == shape


def central_differences(function, X, direction, h=1e-6):
    with torch.no_grad():
        return (function(X + h * direction) - function(X - h * direction)) / (2 * h)


def along(output, X, direction, weights):
    """Derivative of (output * weights).sum(1) in `direction`, by the backward pass."""
    return (torch.autograd.grad((output * weights).sum(), X)[0] * direction).flatten(1).sum(1)


@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "sigmoid"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_pairwise_decisions_have_their_exact_gradient(kernel, n_classes):
    X, y, X_new = images(n_classes)
    module = as_module(SVC(kernel=kernel, coef0=0.3, decision_function_shape="ovo").fit(X, y))
    assert torch.autograd.gradcheck(module.decision_function, torch.tensor(X_new[:4], requires_grad=True))


def test_votes_of_pairs_are_relaxed_in_the_backward_pass():
    X, y, X_new = images(4)
    model = SVC(decision_function_shape="ovo").fit(X, y)
    module = as_module(model)
    X_t = torch.tensor(X_new, requires_grad=True)
    rng = np.random.default_rng(3)
    direction, weights = torch.tensor(rng.normal(size=X_t.shape)), torch.tensor(rng.normal(size=(len(X_t), 4)))

    def relaxed(X_t):
        scores = [0] * 4
        totals = [0] * 4
        pairs = iter(module.decision_function(X_t).T)
        for i in range(4):
            for j in range(i + 1, 4):
                d = next(pairs)
                scores[i] = scores[i] + torch.sigmoid(4 * d)
                scores[j] = scores[j] + torch.sigmoid(-4 * d)
                totals[i], totals[j] = totals[i] + d, totals[j] - d
        return torch.stack([s + t / (3 * (t.abs() + 1)) for s, t in zip(scores, totals, strict=True)], dim=1)

    expected = (central_differences(relaxed, X_t, direction) * weights).sum(1)
    np.testing.assert_allclose(along(module(X_t), X_t, direction, weights), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("break_ties", [False, True])
def test_scores_name_the_prediction_where_votes_tie(break_ties):
    X, y, _ = images(4)
    model = SVC(break_ties=break_ties).fit(X, y)
    X_new = np.random.default_rng(0).uniform(size=(3000, 28))
    module = as_module(model)
    scores, decision = module(torch.tensor(X_new)).numpy(), model.decision_function(X_new)
    predicted = model.predict(X_new)
    tied = decision.argmax(1) != predicted
    assert tied.any() != break_ties
    np.testing.assert_array_equal(scores.argmax(1), predicted)
    np.testing.assert_allclose(scores[~tied], decision[~tied], atol=1e-9)
    changed = np.abs(scores - decision) > 1e-9
    np.testing.assert_array_equal(changed.sum(1), tied)
    np.testing.assert_allclose(scores[tied].max(1), decision[tied].max(1) + 1e-3, atol=1e-9)


def hard_voting():
    members = [("lr", LR()), ("svc", SVC(C=0.1)), ("nb", NB())]
    return VotingClassifier(members, weights=[1, 2.5, 2])


@pytest.mark.parametrize("model", [hard_voting(), BaggingClassifier(LinearSVC(), n_estimators=5, random_state=0)])
def test_votes_are_counted_and_relaxed_in_the_backward_pass(model):
    X, y, X_new = images(4)
    model.fit(X, LABELS["str"](y))
    module = as_module(model)
    X_t = torch.tensor(X_new, requires_grad=True)
    np.testing.assert_array_equal(module.predict(X_t), model.predict(X_new))
    shares = module(X_t).detach().numpy()
    if hasattr(model, "predict_proba"):
        assert_close(module.predict_proba(X_t), model.predict_proba(X_new), 1e-9)
    else:
        expected = np.zeros_like(shares)
        for weight, votes in zip(model.weights, model.transform(X_new).T, strict=True):
            expected[np.arange(len(votes)), votes] += weight
        np.testing.assert_allclose(shares, expected, atol=1e-12)
    members = [as_module(member) for member in model.estimators_]
    weights = getattr(model, "weights", [1 / len(members)] * len(members))
    relaxed = sum(w * torch.softmax(member(X_t), 1)[:, 0] for w, member in zip(weights, members, strict=True))
    expected = torch.autograd.grad(relaxed.sum(), X_t)[0]
    np.testing.assert_allclose(torch.autograd.grad(module(X_t)[:, 0].sum(), X_t)[0], expected, atol=1e-12)


def test_stairs_of_isotonic_calibration_have_the_slope_of_a_line():
    X, y, X_new = images(2)
    model = CalibratedClassifierCV(LinearSVC(), method="isotonic", cv=2, ensemble=False).fit(X, y)
    X_t = torch.tensor(X_new, requires_grad=True)
    gradient = torch.autograd.grad(as_module(model).predict_proba(X_t)[:, 1].sum(), X_t)[0]
    curve, svc = model.calibrated_classifiers_[0].calibrators[0], model.calibrated_classifiers_[0].estimator
    slope = np.ptp(curve.y_thresholds_) / np.ptp(curve.X_thresholds_)
    np.testing.assert_allclose(gradient, np.broadcast_to(slope * svc.coef_, X_t.shape), rtol=1e-9)


def test_bagging_members_that_miss_classes():
    X, y, X_new = images(4)
    keep = np.concatenate([np.flatnonzero(y == c)[: 40 if c < 2 else 2] for c in range(4)])
    model = BaggingClassifier(make_pipeline(LR()), n_estimators=6, max_samples=0.2, random_state=1).fit(
        X[keep], y[keep]
    )
    assert any(len(member.classes_) < 4 for member in model.estimators_)
    X_t = torch.tensor(X_new)
    assert_close(as_module(model).predict_proba(X_t), model.predict_proba(X_new), 1e-9)
    np.testing.assert_array_equal(as_module(model).predict(X_t), model.predict(X_new))


def test_one_vs_rest_with_a_class_in_every_sample():
    X, y, X_new = images(4)
    model = OneVsRestClassifier(LinearSVC()).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sklearn.multiclass import _ConstantPredictor

        model.estimators_[2] = _ConstantPredictor().fit(X, np.array([0]))
    X_t = torch.tensor(X_new)
    assert_close(as_module(model).decision_function(X_t), model.decision_function(X_new), 1e-9)
    np.testing.assert_array_equal(as_module(model).predict(X_t), model.predict(X_new))


@pytest.mark.parametrize(
    "model", [MLPClassifier((4,), max_iter=5), OneVsRestClassifier(LinearSVC()), linear_model.RidgeClassifier()]
)
def test_multilabel_is_refused(model):
    X, y, _ = images(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, np.stack([y > 0, y > 1, y % 2 == 0], axis=1).astype(int))
    with pytest.raises(ValueError, match="multilabel"):
        as_module(model)


REFUSED = {
    "its kernel is 'precomputed'": lambda X, y: SVC(kernel="precomputed").fit(X @ X.T, y),
    "kernel 'cosine'": lambda X, y: KernelPCA(2, kernel="cosine").fit(X),
    "its kernel is a callable": lambda X, y: SVC(kernel=lambda A, B: A @ B.T).fit(X, y),
    "thresholds X at binarize=0.0": lambda X, y: naive_bayes.BernoulliNB().fit(X, y),
    "stacks the labels that 'svc'": lambda X, y: StackingClassifier(
        [("svc", LinearSVC())], stack_method="predict", cv=2
    ).fit(X, y),
    "something else on tensors": lambda X, y: preprocessing.FunctionTransformer(lambda X: X - X.std()).fit(X),
    "turned a tensor into": lambda X, y: preprocessing.FunctionTransformer(lambda X: (X, X)[0:1]).fit(X),
    "failed on a tensor": lambda X, y: preprocessing.FunctionTransformer(lambda X: np.asarray(X) * 2).fit(X),
    "does not depend on X": lambda X, y: preprocessing.FunctionTransformer(lambda X: (X > 0.5) * 1.0).fit(X),
    "no transform with solver='lsqr'": lambda X, y: make_pipeline(LDA(solver="lsqr"), LR()),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_unsupported_estimators_give_the_reason(reason):
    X, y, _ = images(4)
    model = REFUSED[reason](X, y)
    if reason.startswith("no transform"):
        model.steps[0][1].fit(X, y)
        model.steps[1][1].fit(X, y)
    with pytest.raises(NoGradientError, match=reason):
        as_module(model)
