"""One file per family of scikit-learn steps; `skrobust.bridge.registry` loads each when it is first needed."""
