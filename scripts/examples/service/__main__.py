"""`python scripts/examples/service` runs the folder: see `serve`."""

from serve import main

main()
