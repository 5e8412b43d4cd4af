"""The registry of a process that counts as it goes: the console and the workers. The data plane has none, it counts by itself.

A family is made beside the code that counts it, with ``registry=OWN``.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

OWN = CollectorRegistry(auto_describe=False)
