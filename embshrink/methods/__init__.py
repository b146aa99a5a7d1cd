"""The compression methods, one file each. `embshrink.registry` names them."""
