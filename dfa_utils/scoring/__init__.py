"""How windows are scored: by networks in torch, or by a graph in onnxruntime; and whether they hold speech at all."""
