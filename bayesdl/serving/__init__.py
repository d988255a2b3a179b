"""A saved fit behind HTTP: rows in as JSON, predictions with intervals out.

`rows.py` reads the rows of a request and writes predictions as JSON; `gathering.py` predicts the
rows of waiting requests at once, in one thread; `application.py` is the web application, which
`bayesdl serve` runs. Needs the extra `serve`: pip install "bayesdl[serve]".
"""

from bayesdl.serving.application import application as application
from bayesdl.serving.application import serve as serve
from bayesdl.serving.rows import Limits as Limits
