"""Exporting an encoder as packages do, and comparing it with the trained module."""

import warnings

import onnxruntime
import pytest
import torch


class Tokens(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, batch):
        features = self.encoder(batch)
        return {"out_tokens": features.tokens, "out_mask": features.mask}


def export(encoder, arrays, specs, path):
    """Exports with dynamic batch, and dynamic sizes where the processor's arrays have them; returns a session."""
    sizes = {"batch": torch.export.Dim("batch")}
    shapes = {}
    for name, spec in specs.items():
        shapes[name] = {0: sizes["batch"]}
        for axis, size in enumerate(spec.shape, 1):
            if isinstance(size, str):
                shapes[name][axis] = sizes.setdefault(size, torch.export.Dim(size))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        program = torch.onnx.export(
            Tokens(encoder).eval(),
            (),
            kwargs={"batch": {name: torch.from_numpy(array) for name, array in arrays.items()}},
            dynamic_shapes={"batch": shapes},
            input_names=list(arrays),
            output_names=["out_tokens", "out_mask"],
            dynamo=True,
            verbose=False,
        )
    program.save(path, external_data=False)
    return onnxruntime.InferenceSession(path)


def assert_agrees(session, encoder, arrays, tolerance=1e-4):
    """Runs both on NumPy arrays and compares tokens where the mask is True."""
    with torch.no_grad():
        features = encoder.eval()({name: torch.from_numpy(array) for name, array in arrays.items()})
    wanted = {entry.name for entry in session.get_inputs()}
    tokens, mask = session.run(
        ["out_tokens", "out_mask"], {name: array for name, array in arrays.items() if name in wanted}
    )
    assert (mask == features.mask.numpy()).all()
    assert tokens[mask] == pytest.approx(features.tokens.numpy()[mask], abs=tolerance)
