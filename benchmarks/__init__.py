"""Measurements that the documentation quotes, each made by one command."""
