"""The embedded testbed `mini`: a drawn world, three small LLaVA bases trained on it, oracles. Synthetic."""
