"""Milvus' metadata in etcd: where it lies, how it is encoded, tables that follow it, and the way to write it.

Source of truth: Milvus 2.3.5 internal/metastore (2.5 where it says so).
"""
