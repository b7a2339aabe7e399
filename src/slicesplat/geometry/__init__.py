"""Where things are: rigid transforms, stacks, slices and their point-spread functions."""
