import pytest
import torch

from upnext.nn.target_attention import TargetAttention

B, L, C, D = 3, 5, 4, 8


def slow(
    module: TargetAttention,
    past: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    candidates: torch.Tensor,
    prior: torch.Tensor,
    num_visible: torch.Tensor,
) -> torch.Tensor:
    """One candidate, one head, one moment at a time; moment 0 is the start."""
    items, states, feedback = past
    nothing, width = prior.new_zeros(D), D // module.heads
    out = prior.new_zeros(B, C, D)
    for b in range(B):
        for c in range(C):
            query = module.query_item(module.norm(candidates[b, c])) + module.query_state(prior[b, c])
            logits, values = [], []
            for moment in range(int(num_visible[b, c]) + 1):
                item = items[b, moment - 1] if moment else nothing
                key = module.key_item(module.norm(item)) + module.key_state(states[b, moment])
                logits.append((query * key).view(module.heads, width).sum(1) / width**0.5)
                came = feedback[b, moment - 1] if moment else nothing
                values.append((module.value_state(states[b, moment]) + module.value_feedback(came)).view(-1, width))
            weights = torch.softmax(torch.stack(logits), 0)
            out[b, c] = (weights[..., None] * torch.stack(values)).sum(0).flatten()
    found: torch.Tensor = module.output(out)
    return found


@pytest.mark.parametrize("heads", [1, 2])
def test_equals_the_slow_loop_with_gradients(heads: int) -> None:
    torch.manual_seed(0)
    module = TargetAttention(D, heads).double()
    tensors = [torch.randn(*shape, D, dtype=torch.float64) for shape in ((B, L), (B, L + 1), (B, L), (B, C), (B, C))]
    num_visible = torch.tensor([[0, 1, 2, 5], [5, 5, 0, 3], [1, 1, 1, 1]])
    gradients = []
    for way in ("fast", "slow"):
        items, states, feedback, candidates, prior = (one.clone().requires_grad_() for one in tensors)
        if way == "fast":
            out = module(candidates, prior, module.memory(items, states, feedback), num_visible)
        else:
            out = slow(module, (items, states, feedback), candidates, prior, num_visible)
        (out * torch.arange(out.numel()).view_as(out)).sum().backward()
        gradients.append([out, *(one.grad for one in (items, states, feedback, candidates, prior))])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_begins_by_finding_the_item_itself() -> None:
    torch.manual_seed(0)
    module = TargetAttention(64, 1)
    module.begin()
    torch.nn.init.eye_(module.value_feedback.weight)
    torch.nn.init.eye_(module.output.weight)
    for linear in (module.value_state, module.output, module.value_feedback):
        torch.nn.init.zeros_(linear.bias)
    torch.nn.init.zeros_(module.value_state.weight)
    items, feedback = torch.randn(1, 30, 64), torch.randn(1, 30, 64)
    memory = module.memory(items, torch.randn(1, 31, 64), feedback)
    found = module(items, torch.randn(1, 1, 64), memory, torch.tensor([[30]]))
    like = torch.nn.functional.cosine_similarity(found[0, :, None], feedback[0, None], dim=-1)
    assert like.argmax(1).tolist() == list(range(30))
