"""Commands with a file each; `harness.cli` registers them."""
