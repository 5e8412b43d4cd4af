"""What the demo makes, by name: what ``demo remove`` removes again."""

from __future__ import annotations

MODELS = ("breast-cancer", "diabetes")
ENDPOINTS = ("tumour-screening", "diabetes-progression")
KEY_NAME = "demo traffic"
KEY_FILE = "demo.key"
