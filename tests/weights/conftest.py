"""Small models with every parameter random, and the files that others would write of them."""

import pytest
import torch

from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig


def randomised(model: torch.nn.Module, seed: int = 0, std: float = 0.3) -> torch.nn.Module:
    """Norms and biases too, which start out all alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, std, generator=generator)
    return model.eval()


TINY = {"num_classes": 3, "num_frames": 64, "width": 24, "heads": 3, "depth": 2}


@pytest.fixture
def agree(request):
    """`agree(what, ours, theirs, limit)`: relative to the largest value; printed for the guide.

    `make test ARGS="tests/weights -rP" | grep parity:` lists what was measured.
    """

    def check(what, ours, theirs, limit):
        deviation = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        print(f"parity: {request.node.name}: {what} {deviation:.1e} (limit {limit:.0e})")
        assert deviation < limit

    return check


@pytest.fixture
def tiny():
    """`tiny(**changes)`: an AST of 24 numbers a token, with changes to its configuration."""
    return lambda **changes: randomised(AST(ASTConfig(**TINY | changes)))


@pytest.fixture
def classifier(tiny):
    """A tiny AST of three classes with its front end."""
    return AudioClassifier(tiny(), Frontend(FrontendConfig(num_frames=64)), ("a", "b", "c"))
