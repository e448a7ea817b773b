"""ONNX in, TensorRT engine out, installed as edge_ssd.build_engine. Not written yet: models run as ONNX."""
