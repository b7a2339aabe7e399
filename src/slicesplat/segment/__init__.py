"""Masks found by a network: where the brain is in each stack, the same brain in all of them."""
