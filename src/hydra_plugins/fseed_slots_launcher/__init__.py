"""Hydra plugin: the launcher that runs a sweep in slots, a process per run."""
