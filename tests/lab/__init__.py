"""A Milvus 2.3.5 cluster of real processes on one machine, without containers.

Used by tests/interop (and by hand: ``python -m tests.lab.recording``). Nothing here is part of coordd.
"""
