"""What is likely before anything is measured: quadratic forms that majorise a prior on the field."""
