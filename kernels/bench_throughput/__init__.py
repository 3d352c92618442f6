"""Times whole training steps: this trainer, flash-linear-attention's model, nothing fused."""
