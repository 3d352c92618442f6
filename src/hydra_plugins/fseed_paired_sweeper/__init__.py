"""Hydra plugin: the sweeper that pairs each Future-Seed arm with its baseline."""
