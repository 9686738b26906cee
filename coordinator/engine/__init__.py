"""The one thread, and everything that touches kazoo.

Nothing above this folder imports kazoo; nothing in `core` imports this folder. What kazoo leaves untyped
or unsaid (the negotiated timeout, the time of last contact, why an attempt failed) is made typed here.
"""
