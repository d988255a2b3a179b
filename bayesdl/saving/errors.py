"""The error of files that cannot be written or read."""


class BundleError(ValueError):
    """A file that is not a bundle, or one that cannot be read here."""
