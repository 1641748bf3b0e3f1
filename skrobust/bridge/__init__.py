"""`as_module`: fitted scikit-learn estimators and Pipelines as differentiable torch modules."""
