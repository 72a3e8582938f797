"""A page on this machine on which one hears and sees what a model finds in recordings."""

from train.serve.server import Address, serve

__all__ = ["Address", "serve"]
