"""Keras on the backend that KERAS_BACKEND names, TensorFlow otherwise, set up before any test imports it."""

import os
from dataclasses import replace

import pytest

from thaw.config.schema import Device
from thaw.network import backend
from thaw.network.backend import active_device, use_backend

use_backend(os.environ.get("KERAS_BACKEND", "tensorflow"), Device(xla="auto", precision="float32"))


@pytest.fixture
def streamed(monkeypatch):
    """No room on the device: examples are read batch by batch."""
    monkeypatch.setattr(backend, "_active", replace(active_device(), data_gb=0.0))


@pytest.fixture(params=["on the device", "streamed"])
def place(request):
    """Where the examples lie: the test runs with both."""
    if request.param == "streamed":
        request.getfixturevalue("streamed")
    return request.param
