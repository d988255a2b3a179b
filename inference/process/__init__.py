"""A good guest in the process of others: threads, warnings, interruptions.

`threads.py` gives each thread handlers of its own, `cached.py` computes attributes once without a
lock, and `quiet.py` silences warnings in one thread alone.
"""
