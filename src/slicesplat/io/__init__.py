"""Reading and writing files, one module per format. Knows images and transforms, no Gaussians."""
