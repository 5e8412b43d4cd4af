"""Prometheus metrics: what one process tells (``exposition``), and how one page tells it of all of them (``siblings``). No Django."""
