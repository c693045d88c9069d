"""`python -m equivox`, which `torchrun -m equivox train ...` needs."""

from equivox.cli.app import main

if __name__ == "__main__":
    main()
