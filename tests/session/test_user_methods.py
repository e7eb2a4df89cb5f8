import pytest
from tiny import CONFIG, TinySession

from torchbase.errors import TorchbaseError

NEEDED = [
    "init_datasets",
    "init_network",
    "init_optimizer",
    "init_dataloaders",
    "dataloader_collate_function",
    "forward_pass",
    "loss_function",
    "get_loss_value",
    "infer_mini_batch_size",
]
NOT_NEEDED = ["init_metrics", "init_scheduler"]


def without_return(method):
    if method == "loss_function":
        return type("Wrong", (TinySession,), {method: lambda self, *, output, target: None})
    if method == "get_loss_value":
        return type("Wrong", (TinySession,), {method: lambda self, *, loss_tensor: None})
    return type("Wrong", (TinySession,), {method: lambda self, *arguments: None})


@pytest.mark.parametrize("method", NEEDED)
def test_a_method_without_a_return_statement_is_named_before_training(tmp_path, method):
    session = without_return(method)(CONFIG, tmp_path)
    with pytest.raises(TorchbaseError, match=rf"{method}.*None|None.*{method}"):
        session()
    assert session._run_directory.path.exists() is False


@pytest.mark.parametrize("method", NOT_NEEDED)
def test_a_method_that_may_return_nothing_may_lack_a_return_statement(tmp_path, method):
    assert without_return(method)(CONFIG, tmp_path)().epochs_done == 2


def test_the_message_says_where_none_comes_from(tmp_path):
    with pytest.raises(TorchbaseError) as caught:
        without_return("loss_function")(CONFIG, tmp_path)()
    assert str(caught.value) == (
        "loss_function has to return a tensor of shape (), but returned None, as a method without a return statement "
        "does. To fix, return the loss, and don't call .item() or float() on it."
    )
