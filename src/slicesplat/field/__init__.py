"""The volume as a sum of Gaussians, and the lattice that they stand on."""
