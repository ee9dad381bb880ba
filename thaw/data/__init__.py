"""The stage preprocess, which reads images and writes the splits, and what training reads of them and of features."""
