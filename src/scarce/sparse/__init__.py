"""Exact linear algebra on CSR batches that never forms a cells x genes array."""
