"""Kinds of judges and writers, one file each; the file name is what stands before the colon in a testbed."""
