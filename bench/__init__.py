"""Benchmarks; `make bench` runs the first."""
