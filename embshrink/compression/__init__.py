"""From a source to an ``.ems`` file: read, shrink, write, verify, report."""
