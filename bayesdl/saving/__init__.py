"""Posteriors as files without code.

`serialization.py` turns specs into JSON data and back; `archive.py` is the file format, a zip of a
manifest, arrays and netCDF; `writing.py` saves a posterior into it, and `bundle.py` loads one,
and sends it to other processes. `integrity.py` tells whether a file is what was written.
`report.py`, with `pictures.py`, writes a fit as one page of HTML.
"""
