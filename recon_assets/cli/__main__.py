"""`python -m recon_assets.cli`."""

from recon_assets.cli.main import main

if __name__ == "__main__":
    main()
