"""Times single-row predictions: Signalbox with everything on, hand-written servers and products, interleaved with the floor."""
