"""Recipes, the training loop, cross-validation, evaluation and the command line."""
