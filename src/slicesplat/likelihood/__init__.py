"""What the pixels say: noise, robust weights, gains, validation pixels."""
