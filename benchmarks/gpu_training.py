"""What torchbase, Lightning and Accelerate cost on a GPU, over a hand-written loop, for networks of usual sizes.

All sides train the same network on the same mini-batches, which are on the GPU, with bf16 autocast and fused AdamW.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from measuring import Outcome, Sample, Side, TimedBatches, Unit, compare, is_installed
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from torchbase import TrainingBaseSession, ValidationDatasetsDict

LEARNING_RATE = 1e-4
MILLISECONDS_PER_ITERATION = Unit("ms per iteration", 1e3)
BOUND_IN_PERCENT = 1

Batch = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Workload:
    """A network, and what it is trained on.

    Attributes:
        name: Its name in the table.
        architecture: The name of the network's class.
        make_network: Creates the network, which takes the inputs and returns logits with the classes last.
        make_batch: Creates a mini-batch with the keys ``inputs`` and ``labels``, on a device.
        size: The number of samples in a mini-batch.
        iterations: The number of iterations that are measured.
    """

    name: str
    architecture: str
    make_network: Callable[[], torch.nn.Module]
    make_batch: Callable[[torch.device], dict[str, torch.Tensor]]
    size: int
    iterations: int


class Bottleneck(torch.nn.Module):
    """A block of a ResNet-50: https://arxiv.org/abs/1512.03385."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = torch.nn.Sequential(
            *(torch.nn.Conv2d(inputs, width, 1, bias=False), torch.nn.BatchNorm2d(width), torch.nn.ReLU()),
            *(torch.nn.Conv2d(width, width, 3, stride, 1, bias=False), torch.nn.BatchNorm2d(width), torch.nn.ReLU()),
            *(torch.nn.Conv2d(width, outputs, 1, bias=False), torch.nn.BatchNorm2d(outputs)),
        )
        self.shortcut: torch.nn.Module = torch.nn.Identity()
        if stride != 1 or inputs != outputs:
            convolution = torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = torch.nn.Sequential(convolution, torch.nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def make_resnet(depths: tuple[int, ...] = (3, 4, 6, 3)) -> torch.nn.Module:
    """Creates a residual network; by default a ResNet-50."""
    stem = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    layers = [stem, torch.nn.BatchNorm2d(64), torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, depth in enumerate(depths):
        for position in range(depth):
            width = 64 * 2**stage
            layers.append(Bottleneck(inputs, width, 2 if stage > 0 and position == 0 else 1))
            inputs = 4 * width
    layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(inputs, 1000)]
    return torch.nn.Sequential(*layers)


class Block(torch.nn.Module):
    """A block of GPT-2."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attention, self.projection = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.body = torch.nn.Sequential(
            torch.nn.Linear(width, 4 * width), torch.nn.GELU(), torch.nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        samples, length, width = x.shape
        parts = self.attention(self.norm_1(x)).view(samples, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.projection(attended.transpose(1, 2).reshape(samples, length, width))
        return x + self.body(self.norm_2(x))


class Gpt(torch.nn.Module):
    """A network of the shape of GPT-2; by default of the small one."""

    def __init__(self, layers: int = 12, width: int = 768, heads: int = 12, tokens: int = 50304, length: int = 1024):
        super().__init__()
        self.token, self.position = torch.nn.Embedding(tokens, width), torch.nn.Embedding(length, width)
        self.blocks = torch.nn.Sequential(*(Block(width, heads) for _ in range(layers)), torch.nn.LayerNorm(width))
        self.head = torch.nn.Linear(width, tokens, bias=False)
        self.head.weight = self.token.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x.size(1), device=x.device)
        return self.head(self.blocks(self.token(x) + self.position(places)))


def make_images(device: torch.device, size: int, pixels: int) -> dict[str, torch.Tensor]:
    """Creates a mini-batch of pictures."""
    images = torch.randn(size, 3, pixels, pixels, device=device)
    return {"inputs": images, "labels": torch.randint(1000, (size,), device=device)}


def make_tokens(device: torch.device, size: int, length: int, tokens: int) -> dict[str, torch.Tensor]:
    """Creates a mini-batch of texts."""
    words = torch.randint(tokens, (size, length + 1), device=device)
    return {"inputs": words[:, :-1].contiguous(), "labels": words[:, 1:].contiguous()}


WORKLOADS = (
    Workload("a ResNet-50", "Sequential", make_resnet, partial(make_images, size=64, pixels=224), 64, 40),
    Workload("a GPT-2 small", "Gpt", Gpt, partial(make_tokens, size=8, length=1024, tokens=50304), 8, 30),
)
SMALL_WORKLOADS = (
    Workload(
        "a small ResNet", "Sequential", partial(make_resnet, (1, 1)), partial(make_images, size=2, pixels=32), 2, 3
    ),
    Workload(
        "a small GPT", "Gpt", partial(Gpt, 1, 32, 2, 64, 16), partial(make_tokens, size=2, length=16, tokens=64), 2, 3
    ),
)


class SynchronizedBatches(TimedBatches):
    """Mini-batches whose clock waits for the device when it starts and when it stops."""

    def __init__(self, batches: list[dict[str, torch.Tensor]], measured: int, device: torch.device) -> None:
        super().__init__(batches, warm_up=5, measured=measured)
        self.device = device

    def now(self) -> float:
        """The seconds of a clock, once the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return super().now()


Train = Callable[[Workload, SynchronizedBatches, Path], None]


def loss_of(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Computes the loss of a mini-batch."""
    with torch.autocast(batch["inputs"].device.type, torch.bfloat16):
        logits = network(batch["inputs"])
        return cross_entropy(logits.flatten(0, -2), batch["labels"].flatten())


def new_optimizer(network: torch.nn.Module) -> torch.optim.Optimizer:
    """Creates the optimizer."""
    return torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, fused=True)


def new_network(workload: Workload, device: torch.device) -> torch.nn.Module:
    """Creates the network on the device."""
    torch.manual_seed(1)
    return workload.make_network().to(device)


def train_by_hand(workload: Workload, batches: SynchronizedBatches, folder: Path) -> None:
    """Trains with a plain loop."""
    network = new_network(workload, batches.device)
    optimizer = new_optimizer(network)
    for batch in batches:
        loss_of(network, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


class Session(TrainingBaseSession):
    """The preset with all default hooks; TensorBoard writes each iteration."""

    workload: Workload
    ready_made: SynchronizedBatches

    def init_datasets(self) -> Any:
        """Returns a training set that isn't read, and no validation set."""
        from datasets import Dataset

        return Dataset.from_dict({"label": [0]}), ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())

    def init_dataloaders(self) -> tuple[Any, Mapping[str, Any]]:
        """Returns the ready-made mini-batches."""
        return self.ready_made, {}

    def init_network(self) -> torch.nn.Module:
        """Returns the network."""
        return new_network(self.workload, self.device)

    def init_optimizer(self) -> torch.optim.Optimizer:
        """Returns the optimizer of all sides."""
        return new_optimizer(self.network)

    def init_metrics(self) -> None:
        """Returns no metrics."""

    def forward_pass(self, mini_batch: Any) -> Mapping[str, torch.Tensor]:
        """Returns the loss, which the function of all sides computes."""
        return {"loss": loss_of(self.network, mini_batch)}

    def loss_function(self, *, loss: torch.Tensor) -> torch.Tensor:
        """Returns the loss."""
        return loss


def train_with_session(workload: Workload, batches: SynchronizedBatches, folder: Path) -> None:
    """Trains with the preset."""
    device_name = batches.device.type
    settings = {"device_name": device_name, "num_epochs": 1, "mini_batch_size": workload.size, "seed": 1}
    config = {
        "session": {**settings, "learning_rate": LEARNING_RATE},
        "network": {"architecture": workload.architecture},
    }
    session = Session(config, folder)
    session.unregister("checkpoint")  # it is measured by checkpoint_hold_up; the others write none either
    session.workload, session.ready_made = workload, batches
    session()


def train_with_accelerate(workload: Workload, batches: SynchronizedBatches, folder: Path) -> None:
    """Trains with Accelerate, without tracking and checkpoints."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=batches.device.type == "cpu")
    bare = new_network(workload, batches.device)
    network, optimizer = accelerator.prepare(bare, new_optimizer(bare))
    for batch in batches:
        accelerator.backward(loss_of(network, batch))
        optimizer.step()
        optimizer.zero_grad()


def train_with_lightning(workload: Workload, batches: SynchronizedBatches, folder: Path) -> None:
    """Trains with Lightning, with TensorBoard at each iteration, without checkpoints."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import TensorBoardLogger

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = new_network(workload, batches.device)

        def training_step(self, batch: Batch) -> torch.Tensor:
            loss = loss_of(self.network, batch)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return new_optimizer(self.network)

    trainer = Trainer(
        accelerator="gpu" if batches.device.type == "cuda" else "cpu",
        devices=1,
        max_epochs=1,
        logger=TensorBoardLogger(folder),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Module(), batches)


def clock(train: Train, workload: Workload, device: torch.device) -> Sample:
    """Measures the time of an iteration."""
    batches = SynchronizedBatches([workload.make_batch(device) for _ in range(4)], workload.iterations, device)
    with TemporaryDirectory() as folder:
        train(workload, batches, Path(folder))
    return Sample(batches.seconds_per_iteration)


def measure(workload: Workload, device: torch.device, repetitions: int = 5) -> Outcome:
    """Measures all loops.

    Args:
        workload: What is trained.
        device: The device.
        repetitions: The number of turns that count.
    """
    has_lightning, has_accelerate = is_installed("lightning"), is_installed("accelerate", "safetensors")
    sides = [
        Side("the hand-written loop", lambda: clock(train_by_hand, workload, device)),
        Side("torchbase", lambda: clock(train_with_session, workload, device)),
        Side("Accelerate", (lambda: clock(train_with_accelerate, workload, device)) if has_accelerate else None),
        Side("Lightning", (lambda: clock(train_with_lightning, workload, device)) if has_lightning else None),
    ]
    return compare(
        f"gpu_training: {workload.name}",
        f"Mini-batches of {workload.size}, bf16, fused AdamW, on {device}; {workload.iterations} iterations after 5. "
        "torchbase has all default hooks but for the checkpoint, and writes the loss of each iteration to TensorBoard, "
        f"as Lightning does. Goal: within {BOUND_IN_PERCENT} % of the hand-written loop.",
        sides,
        repetitions,
        MILLISECONDS_PER_ITERATION,
    )
