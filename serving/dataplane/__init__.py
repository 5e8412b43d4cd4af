"""The data plane: answers predictions from memory. No Django, no database and no network on the answer's path."""
