"""The joint estimate of field, motion, gains and weights, and what follows from it."""
