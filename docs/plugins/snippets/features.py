from automm.api import Features, torch

tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
mask = torch.tensor([[True, True], [True, False], [False, False]])  # the third row lacks the input
features = Features(tokens, mask)
assert features.mean().tolist() == [[2, 3], [5, 6], [0, 0]]  # [batch, width]
assert features.present.tolist() == [True, True, False]
assert Features.vector(torch.zeros(3, 8)).tokens.shape == (3, 1, 8)
