"""The compression methods, one file each. `embshrink.methods.registry` names them."""
