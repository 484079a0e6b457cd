"""Muon moves matrices equally far in every direction, and what it does not know is Adam's."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from training.optimiser import DECAY, MATRIX_RATE, Muon, Taught, orthogonal  # noqa: E402


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (24, 8), (8, 24), (1, 16)])
def test_every_direction_of_a_step_is_about_as_long(rows: int, columns: int) -> None:
    torch.manual_seed(rows)
    matrices = torch.randn(3, rows, columns) * torch.tensor([1e-4, 1.0, 1e4])[:, None, None]
    result = orthogonal(matrices)
    assert result.shape == matrices.shape
    sizes = torch.linalg.svdvals(result)
    assert float(sizes.max()) < 1.3
    # The iteration lifts small singular values towards 1 without reaching it.
    assert float(sizes.median()) > 0.6
    # Directions are kept: the nearest orthogonal matrix has the greatest product with the first.
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    likeness = (result * (left @ right)).sum((1, 2)) / result.norm(dim=(1, 2))
    assert float((likeness / (left @ right).norm(dim=(1, 2))).min()) > 0.95


def test_no_gradient_is_no_step() -> None:
    assert not orthogonal(torch.zeros(1, 4, 4)).any()


def test_a_stack_of_matrices_moves_as_each_alone_would() -> None:
    torch.manual_seed(0)
    stack = torch.nn.Parameter(torch.randn(3, 4, 8))
    alone = [torch.nn.Parameter(part.clone()) for part in stack.detach()]
    optimisers = [Muon([stack], lr=0.1), Muon(alone, lr=0.1)]
    for _ in range(3):
        grad = torch.randn(3, 4, 8)
        stack.grad = grad
        for one, part in zip(alone, grad, strict=True):
            one.grad = part.clone()
        for optimiser in optimisers:
            optimiser.step()
    torch.testing.assert_close(stack.detach(), torch.stack([one.detach() for one in alone]))


def test_matrices_agree_with_the_muon_of_torch() -> None:
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(24, 8))
    theirs = torch.nn.Parameter(ours.detach().clone())
    first = Muon([ours], lr=0.1)
    second = torch.optim.Muon([theirs], lr=0.1, weight_decay=DECAY)
    for _ in range(4):
        ours.grad = torch.randn(24, 8)
        theirs.grad = ours.grad.clone()
        first.step()
        second.step()
    # Theirs iterates in bfloat16.
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=0.02, atol=0.02)


def test_weights_that_nothing_holds_up_fade() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 4))
    optimiser = Muon([weight], lr=1.0, decay=0.1)
    for _ in range(10):
        weight.grad = torch.zeros(4, 4)
        optimiser.step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.9**10))


def test_a_group_goes_on_from_saved_moments() -> None:
    def group() -> tuple[Taught, list[torch.nn.Parameter]]:
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(4, 8)), torch.nn.Parameter(torch.randn(8))]
        return Taught(parameters, parameters[:1]), parameters

    def move(taught: Taught, parameters: list[torch.nn.Parameter], step: int) -> None:
        torch.manual_seed(step)
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        taught.step(0.01)

    (unbroken, expected), (first, mine) = group(), group()
    for step in range(4):
        move(unbroken, expected, step)
    for step in range(2):
        move(first, mine, step)
    second = Taught(mine, mine[:1])
    second.load_state_dict(first.state_dict())
    for step in (2, 3):
        move(second, mine, step)
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_matrices_move_at_a_rate_of_their_own() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(4, 4)), torch.nn.Parameter(torch.zeros(4))]
    taught = Taught(parameters, parameters[:1])
    parameters[0].grad, parameters[1].grad = torch.eye(4), torch.ones(4)
    taught.step(1e-3)
    assert float(parameters[1].detach().abs().max()) == pytest.approx(1e-3, rel=1e-3)
    moved = float(parameters[0].detach().diagonal().abs().mean())
    assert 0.6 < moved / (MATRIX_RATE * 1e-3) < 1.3
    assert parameters[0].grad is None
