"""Shared fixtures."""

from hypothesis import HealthCheck, settings

# Machines here are slow and noisy: a time limit per example says nothing about the code.
settings.register_profile("coordd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("coordd")

pytest_plugins = ("tests.support.etcd",)
