"""The models, one per file: plain modules that keep the protocol of `scarce.models.parts.Net`."""
