"""Backends: the three steps of a frame on one kind of device."""
