"""Asking somebody who is not the model under test: how, what it costs, and what is kept of it."""
