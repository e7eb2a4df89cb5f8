"""Graphs of several sizes: a graph isomorphism network, which is trained on one large graph per mini-batch.

    python examples/recipes/graphs.py

Stands for main.py of powerful-gnns. The graphs are drawn by the program: trees, some of which have one more edge. The
network finds out which have, so which have a cycle. A mini-batch of any other class works as well, such as Batch of
torch_geometric: see graphs_pyg.py.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

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
    "network": {"architecture": "GraphIsomorphismNetwork", "layers": 3, "width": 32},
}


class GraphIsomorphismNetwork(nn.Module):
    def __init__(self, layers, width):
        super().__init__()
        self.first = nn.Linear(1, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(layers)
        )
        self.last = nn.Linear(width, 2)

    def forward(self, degrees, edges, graph_of_node, graphs):
        x = self.first(degrees[:, None])
        for layer in self.layers:
            x = x + layer(x.index_add(0, edges[1], x[edges[0]])).relu()
        return self.last(x.new_zeros(graphs, x.shape[1]).index_add(0, graph_of_node, x))


class GraphSession(TrainingBaseSession):
    def init_datasets(self):
        train, valid = ([self.draw() for _ in range(self.config_data[key])] for key in ("graphs", "validation_graphs"))
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def draw(self):
        nodes = int(torch.randint(self.config_data["fewest_nodes"], self.config_data["most_nodes"] + 1, ()))
        children = torch.arange(1, nodes)
        edges = torch.stack([(torch.rand(nodes - 1) * children).long(), children])
        has_cycle = int(torch.randint(2, ()))
        free = (torch.ones(nodes, nodes).triu(1).index_put(tuple(edges), torch.tensor(0.0))).nonzero().T
        chosen = free[:, torch.randperm(free.shape[1])[:has_cycle]]
        edges = torch.cat([edges, chosen, edges.flip(0), chosen.flip(0)], dim=1)
        return {"nodes": nodes, "edges": edges, "has_cycle": has_cycle}

    def dataloader_collate_function(self, batch):
        nodes = torch.tensor([graph["nodes"] for graph in batch])
        first = nodes.cumsum(0) - nodes
        edges = torch.cat([graph["edges"] + begin for graph, begin in zip(batch, first, strict=True)], dim=1)
        return {
            "edges": edges,
            "degrees": edges[1].bincount(minlength=int(nodes.sum())).float(),
            "graph_of_node": torch.arange(len(batch)).repeat_interleave(nodes),
            "has_cycle": torch.tensor([graph["has_cycle"] for graph in batch]),
        }

    def infer_mini_batch_size(self, mini_batch):
        return len(mini_batch["has_cycle"])

    def init_network(self):
        return GraphIsomorphismNetwork(self.config_network["layers"], self.config_network["width"])

    def init_metrics(self):
        return [MulticlassClassificationMetrics({"has_cycle": "class_ground_truth", "logits": "class_scores"})]

    def forward_pass(self, mini_batch):
        batch = {name: column.to(self.device) for name, column in mini_batch.items()}
        has_cycle = batch.pop("has_cycle")
        return {"logits": self.network(**batch, graphs=len(has_cycle)), "has_cycle": has_cycle}

    def loss_function(self, *, logits, has_cycle):
        return cross_entropy(logits, has_cycle)


def main():
    session = GraphSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        print(f"accuracy: {summary.averages['validation-valid']['accuracy']:.3f}")


if __name__ == "__main__":
    main()
