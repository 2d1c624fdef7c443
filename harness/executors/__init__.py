"""Who runs stages, a file each: `harness compare --executor NAME`."""
