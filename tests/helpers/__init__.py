"""What the tests of several modules are made of, each thing once."""
