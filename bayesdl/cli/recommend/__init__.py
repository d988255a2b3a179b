"""The command `bayesdl recommend`.

`parser.py` has the options, `events.py` reads tables of users and items, `commands.py` fits a
recommender or applies it, and `report.py` says what was found. The parser imports nothing heavy, so
that `--help` is quick.
"""
