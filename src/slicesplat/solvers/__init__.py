"""Solvers that know no images: conjugate gradients and their preconditioner, Levenberg-Marquardt, graph replay."""
