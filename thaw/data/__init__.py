"""The stage preprocess, which writes the splits, and what training reads: splits, examples, stored activations."""
