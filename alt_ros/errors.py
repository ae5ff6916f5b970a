"""Errors that a user can act on: subject, requirement, value got and remedy, in one line."""


class AltError(Exception):
    """Base of every error raised on purpose; the command line prints it as one line."""


class ConfigurationError(AltError):
    """A parameter or option is out of its bounds, or two of them contradict each other."""


class DataError(AltError):
    """A demonstration, a bag, an image or a pose is missing, damaged or of the wrong shape."""


class BundleError(AltError):
    """A bundle is incomplete, damaged or does not fit the rest of the system."""


class DependencyError(AltError):
    """An optional library or a system resource that the request needs is not there."""


def in_one_line(error: BaseException) -> str:
    """Return what another library's error says, in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
