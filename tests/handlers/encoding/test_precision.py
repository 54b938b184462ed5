import torch

from handlers.encoding import precision


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(64, 8)


def test_a_model_whose_vectors_stay_the_same_is_kept_in_half():
    model = Linear()
    rows = torch.eye(64)[:4]
    kept = precision.halve(model, lambda: list(model.layer(rows.to(model.layer.weight.dtype)).float().detach()), lambda: None)
    assert kept is model
    assert model.layer.weight.dtype == torch.bfloat16


def test_a_model_whose_vectors_change_is_read_anew():
    model, fresh = Linear(), Linear()

    def run():
        half = model.layer.weight.dtype == torch.bfloat16
        return [torch.tensor([1.0, 0.02 if half else 0.0])]

    assert precision.halve(model, run, lambda: fresh) is fresh
    assert fresh.layer.weight.dtype == torch.float32


def test_a_device_without_half_gains_nothing(monkeypatch):
    monkeypatch.setattr(precision, "_has_half", lambda device: False)
    assert not precision.gains(torch.device("cpu"), 64)


def test_the_faster_way_is_found(monkeypatch):
    monkeypatch.setattr(precision, "_has_half", lambda device: True)
    times = {torch.float32: 2.0, torch.bfloat16: 1.0}
    monkeypatch.setattr(precision, "_seconds", lambda layer, rows: times[layer.weight.dtype])
    assert precision.gains(torch.device("cpu"), 64)
    times[torch.bfloat16] = 1.95
    assert not precision.gains(torch.device("cpu"), 64)
