"""Linear models, SVMs, naive Bayes, networks, ensembles, and meta-estimators of classifiers."""
