"""What most jobs' children need, loaded once in the process that they are forked from."""


def load() -> None:
    """Loads the code, MediaPipe's and ONNX's too, and mien's models. Starts no graph and no thread."""
    from mien.models.runtime import tune_process

    tune_process(1)
    import mediapipe.tasks.python.vision  # noqa: F401

    import mien.transforms.magnify
    import mien.transforms.redact
    import mien.transforms.restore  # noqa: F401
    from mien.models.codec import FaceCodec
    from mien.models.faces import load_detectors

    load_detectors()
    FaceCodec.load()
