"""Shared fixtures."""

import signal

from hypothesis import HealthCheck, settings

# Machines here are slow and noisy: a time limit per example says nothing about the code.
settings.register_profile("coordd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("coordd")

# A run in the background of a shell (CI) inherits an ignored SIGINT, and so would the processes under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ("tests.support.etcd",)
