"""The Open Inference Protocol over gRPC: a process of its own on the same engine. Optional."""
