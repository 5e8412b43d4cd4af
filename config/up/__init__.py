"""``signalbox up``: starts every process of the product on this machine and keeps it alive."""
