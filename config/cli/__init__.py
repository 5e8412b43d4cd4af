"""The command line ``signalbox``: on top of the REST API, but for what concerns this machine alone."""
