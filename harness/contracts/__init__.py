"""What implementations of every seam promise, a page each; nothing here knows an implementation."""
