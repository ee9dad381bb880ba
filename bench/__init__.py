"""Benchmarks of thaw, one module each. Start at `schedule`, which `make bench` runs."""
