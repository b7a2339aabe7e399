"""What speaks for a reconstruction and against it without the truth, and the verdict on it."""
