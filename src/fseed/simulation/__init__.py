"""The statistics tried on simulated sweeps whose truth is known (python -m fseed.simulation)."""
