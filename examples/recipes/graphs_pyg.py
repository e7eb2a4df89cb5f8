"""Graphs of several sizes with the layers of PyTorch Geometric; graphs.py does the same without it.

    python -m pip install torch_geometric
    python examples/recipes/graphs_pyg.py

Stands for examples/mutag_gin.py of PyTorch Geometric. The graphs are drawn by the program: trees, some of which have
one more edge. The network finds out which have, so which have a cycle.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MLP, GINConv, global_add_pool

from torchbase import TrainingBaseSession, ValidationDatasetsDict
from torchbase.metrics import MulticlassClassificationMetrics

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 10,
        "mini_batch_size": 32,
        "learning_rate": 0.005,
        "seed": 1,
    },
    "data": {"graphs": 400, "validation_graphs": 100, "fewest_nodes": 5, "most_nodes": 12},
    "metrics": {"MulticlassClassificationMetrics": ["accuracy"]},
    "network": {"architecture": "GraphNetwork", "layers": 3, "width": 32},
}


class GraphNetwork(nn.Module):
    def __init__(self, layers, width):
        super().__init__()
        self.layers = nn.ModuleList(GINConv(MLP([1 if layer == 0 else width, width, width])) for layer in range(layers))
        self.last = nn.Linear(width, 2)

    def forward(self, graphs):
        x = graphs.x
        for layer in self.layers:
            x = layer(x, graphs.edge_index).relu()
        return self.last(global_add_pool(x, graphs.batch, graphs.num_graphs))


class GraphSession(TrainingBaseSession):
    def init_datasets(self):
        train, valid = ([self.draw() for _ in range(self.config_data[key])] for key in ("graphs", "validation_graphs"))
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def draw(self):
        nodes = int(torch.randint(self.config_data["fewest_nodes"], self.config_data["most_nodes"] + 1, ()))
        children = torch.arange(1, nodes)
        edges = torch.stack([(torch.rand(nodes - 1) * children).long(), children])
        has_cycle = torch.randint(2, (1,))
        free = torch.ones(nodes, nodes).triu(1).index_put(tuple(edges), torch.tensor(0.0)).nonzero().T
        chosen = free[:, torch.randperm(free.shape[1])[: int(has_cycle)]]
        edges = torch.cat([edges, chosen, edges.flip(0), chosen.flip(0)], dim=1)
        return Data(x=edges[1].bincount(minlength=nodes).float()[:, None], edge_index=edges, y=has_cycle)

    def dataloader_collate_function(self, batch):
        return Batch.from_data_list(batch)

    def infer_mini_batch_size(self, mini_batch):
        return mini_batch.num_graphs

    def init_network(self):
        return GraphNetwork(self.config_network["layers"], self.config_network["width"])

    def init_metrics(self):
        return [MulticlassClassificationMetrics({"has_cycle": "class_ground_truth", "logits": "class_scores"})]

    def forward_pass(self, mini_batch):
        graphs = mini_batch.to(self.device)
        return {"logits": self.network(graphs), "has_cycle": graphs.y}

    def loss_function(self, *, logits, has_cycle):
        return cross_entropy(logits, has_cycle)


def main():
    session = GraphSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        print(f"accuracy: {summary.averages['validation-valid']['accuracy']:.3f}")


if __name__ == "__main__":
    main()
