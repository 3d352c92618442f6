"""What differs between runs: two of them, many, whole sweeps. No torch, no numpy, no pandas."""
