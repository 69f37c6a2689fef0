"""Shared fixtures."""

import os
import signal
import sys

from hypothesis import HealthCheck, Phase, settings

# Machines here are slow and noisy: a time limit per example says nothing about the code.
settings.register_profile("coordd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("coordd")
# Where it is enough to know that a test fails (tests/mutation): nobody reads the smallest example, which can
# take minutes to find.
settings.register_profile(
    "mutants", settings.get_profile("coordd"), phases=[Phase.explicit, Phase.reuse, Phase.generate]
)

# A run in the background of a shell (CI) inherits an ignored SIGINT, and so would the processes under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests start hundreds of processes. A machine where Python keeps no bytecode (a container's environment often
# says so) would compile coordd for each of them, which takes as long again as all else until it serves.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = ("tests.support.etcd",)
