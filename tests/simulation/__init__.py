"""A deterministic simulation of the election: seeded, in virtual time, with everything that can go wrong.

One run is one seed: it draws a cluster (replicas, clocks, timers, a network) and its faults, plays them
against the real `coordd.ha.election`, `coordd.ha.guard` and `coordd.rootcoord.tso`, and checks the promises
after every event. Real are the decisions; modelled are etcd (`etcd_model`), the driver that carries
instructions out (`coordd_model`, after `coordd.ha.candidacy`), processes and clocks (`process_model`), the
network and the clients (`network`, `world`). What can go wrong is in `faults`, what must hold whatever goes
wrong in `invariants`.

    python -m tests.simulation --seed 17 --trace      replays one run and prints what happened
    python -m tests.simulation --runs 100000 --jobs 2

The same seed at the same commit is the same run.
"""
