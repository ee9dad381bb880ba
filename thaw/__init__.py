"""Gradual-unfreezing transfer learning for CIFAR-10 and CIFAR-100."""

__version__ = "0.1.0"
