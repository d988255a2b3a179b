"""A good guest in the process of others: threads, warnings, memory, interruptions.

`threads.py` gives each thread handlers of its own, `cached.py` computes attributes once without a
lock, `quiet.py` silences warnings in one thread alone, and `memory.py` refuses what no memory can
hold.
"""
