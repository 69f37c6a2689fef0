"""`python -m coordd`."""

from coordd.cli import main

if __name__ == "__main__":
    main()
