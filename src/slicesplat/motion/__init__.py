"""Rigid motion: the algebra of poses, the quality of stacks, and the registration of slices to the field."""
