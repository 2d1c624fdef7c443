"""Finished work under keys of what made it: what a key is, where stages lie, how they are sealed."""
