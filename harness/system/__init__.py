"""Processes, disks, terminals, and files that strangers made; knows no model, no method, no store."""
