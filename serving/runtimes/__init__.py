"""What runs a build. One module per runtime; no Django."""
