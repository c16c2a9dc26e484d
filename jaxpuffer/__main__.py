"""python -m jaxpuffer: the command line."""

from jaxpuffer.cli import main

if __name__ == "__main__":
    main()
