"""Whether a method or a benchmark keeps its contract, tried on made-up data before anything is paid for."""
