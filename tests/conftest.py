"""Keras on the backend that KERAS_BACKEND names, TensorFlow otherwise, set up before any test imports it."""

import os

from thaw import backend

backend.use(os.environ.get("KERAS_BACKEND", "tensorflow"))
