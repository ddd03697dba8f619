"""The models, one per file: plain modules that share one small protocol.

``encode(x)`` returns the code handed downstream (a posterior mean, never a sample),
``decode(z)`` the expected expression, and ``loss(x, progress=..., generator=...)`` the
`Loss` of a batch; ``progress`` runs from 0 to 1 over training and drives every schedule.
"""
