"""Measures coordd side by side with Milvus 2.3.5, in one run on one machine: ``python -m bench``.

Not part of coordd and not installed with it. Milvus' processes come from tests/lab.
"""
