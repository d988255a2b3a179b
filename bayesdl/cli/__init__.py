"""The command line `bayesdl`."""
