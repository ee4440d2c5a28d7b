"""The errors that a user, rather than a programmer, has to act on."""


class InputError(ValueError):
    """Bad flags, files or data. The message names the flag or file, the rule and the value found."""


class NonFiniteError(ArithmeticError):
    """A loss term or gradient became NaN or infinite. The message names term, layer and step."""


class LostProcessError(RuntimeError):
    """Another process of a run is gone. The message names it, and says how to go on."""


class PipelineError(RuntimeError):
    """A pipeline of Apache Beam ended early. The message is one line."""
