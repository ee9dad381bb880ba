"""Splits, examples and stored activations, as training reads them."""
