"""What runs, in which order, and what is finished already. No torch, no Hydra."""
