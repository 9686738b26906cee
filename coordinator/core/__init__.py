"""The pure part: no thread, clock, randomness, I/O, logging or kazoo in here.

Whatever happens outside comes in as a message, together with the time at which it
happened; whatever shall happen outside goes out as an effect.
"""
