"""Hydra plugin: the launcher that runs a sweep on a Ray cluster."""
