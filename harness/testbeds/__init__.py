"""Testbeds: YAML files by their names, and the kinds of testbed, one file each, that stand behind their `data`."""
