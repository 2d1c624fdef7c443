"""Models in and out, records as trees, and what a forward pass says of them; of any family that is known."""
