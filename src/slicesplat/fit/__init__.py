"""The field from the slices: initialisation, robust weights, and the joint fit of Gaussians, poses and gains."""
