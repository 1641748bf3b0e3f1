"""`TorchClassifier` as a torch module: its front end, and its network."""

from skrobust.bridge.modules import NetworkStep


class TorchClassifierStep(NetworkStep):
    """Scores of a fitted `TorchClassifier`, through its front end."""

    def __init__(self, estimator, conversion):
        super().__init__(estimator.network_, len(estimator.classes_), conversion.gradient)
        self.labels = estimator.classes_
        self.layout, self.takes_rows = estimator._layout, estimator.takes_rows_
        self.front_end = None
        if estimator.front_end_ is not None:
            self.front_end = conversion(estimator.front_end_, name="front_end", role="transformer")

    @property
    def classes_(self):
        return self.labels

    def forward(self, X):
        values = X if self.front_end is None else self.front_end(X)
        values = values.flatten(1) if self.takes_rows else self.layout.place(values).values
        return super().forward(values)

    def predict_proba(self, X):
        return self(X).softmax(1)
