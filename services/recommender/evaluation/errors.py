"""What evaluation refuses."""


class EvaluationError(ValueError):
    """Nothing can be measured on this corpus; the message says why and what to do."""
