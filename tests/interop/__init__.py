"""Tests with real Milvus 2.3.5 processes on the other side."""
