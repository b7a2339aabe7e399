"""Ground truth: a phantom, simulated scans, scores."""
