"""Pictures and pages that show what a reconstruction did."""
