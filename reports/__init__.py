"""Tables, statistics and files made from stored results: pure functions, no torch."""
