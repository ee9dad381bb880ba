"""Scores of the final model."""
