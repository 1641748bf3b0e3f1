"""Linear models, SVMs, naive Bayes, networks, ensembles, and what is built on classifiers."""
