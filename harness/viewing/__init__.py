"""Every item of a finished comparison in a browser: what is shown, a local server for it, and a folder to share."""
