"""Benchmarks: frames per second and latency of every engine that this machine has, beside its peers."""
