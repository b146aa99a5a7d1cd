"""The compression methods, one file each; `embshrink.methods.registry` lists them by name."""
