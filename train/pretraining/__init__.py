"""Self-supervised pretraining: what a model learns from clips without their labels."""
