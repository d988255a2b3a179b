"""Commands for developers that are not part of the installed packages."""
