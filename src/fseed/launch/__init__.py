"""Runs in processes of their own: workers, slots, time limits, retries. No Hydra, no torch."""
