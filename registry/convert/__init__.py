"""From a stranger's model file to ONNX: the only code that opens one, in a confined process of its own."""
