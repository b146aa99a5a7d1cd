"""``python -m embshrink``."""

from embshrink.cli import main

if __name__ == "__main__":
    main()
