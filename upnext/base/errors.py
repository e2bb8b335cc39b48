"""Every exception Upnext raises on purpose, as one tree.

UpnextError
└── UserError (also a ValueError)   the input can be mended; exit code 2, HTTP 4xx
    ├── BadConfig                   a configuration file or option
    ├── BadData                     a source file or a value in it
    ├── BadArtifact                 a folder Upnext made: missing, damaged, or of another version
    ├── BadBatch                    arrays or tensors that do not fit together
    ├── BadRequest                  a request to a running service
    ├── Unauthorized                a request without the token that it needs; HTTP 401
    ├── Forbidden                   what this service does not allow anyone; HTTP 403
    ├── NotFound                    an item, a page, a release that is not there
    └── Unreachable                 another machine that does not answer

A message says what is wrong, the value, what is allowed, where, and what to do. Our own bugs are `assert`s.
"""

__all__ = [
    "BadArtifact",
    "BadBatch",
    "BadConfig",
    "BadData",
    "BadRequest",
    "Forbidden",
    "NotFound",
    "Unauthorized",
    "Unreachable",
    "UpnextError",
    "UserError",
]


class UpnextError(Exception):
    """The root of what Upnext raises on purpose."""


class UserError(UpnextError, ValueError):
    """The input is wrong and its author can mend it."""


class BadConfig(UserError):
    """A configuration file or a command-line option is wrong."""


class BadData(UserError):
    """A source file, or a value in it, is wrong."""


class BadArtifact(UserError):
    """A folder made by Upnext is missing, damaged, or of another version."""


class BadBatch(UserError):
    """Arrays or tensors do not fit together."""


class BadRequest(UserError):
    """A request to a running service is malformed."""


class Unauthorized(UserError):
    """A request lacks the token that it needs, or has another one."""


class Forbidden(UserError):
    """What was asked for is switched off."""


class NotFound(UserError):
    """What was asked for does not exist."""


class Unreachable(UserError):
    """Another machine does not answer, or stopped in the middle."""
