"""Gradual-unfreezing transfer learning for CIFAR-10 and CIFAR-100."""
