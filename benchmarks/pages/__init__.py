"""The benchmark of the pages and of the REST API."""
