"""Training: cloning, DAgger, reinforcement learning, checkpoints."""
