"""MediaPipe's detectors as models: where they lie, how they are converted, and what their outputs mean."""
