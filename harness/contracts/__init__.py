"""What implementations of every seam promise, a page each, and the nouns that pass between them; no implementation."""
