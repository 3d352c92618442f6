"""Hydra plugin: the sweeper that races arms in stages and confirms what is left."""
