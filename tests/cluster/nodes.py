"""A Ray cluster of several nodes on this machine, in a process of its own: `python nodes.py` reads commands, answers in JSON."""

import json
import os
import sys

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def main() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = {}

    def add() -> str:
        node = cluster.add_node(num_cpus=1)
        nodes[node.node_id] = node
        return node.node_id

    def answer(value: object) -> None:
        ANSWERS.write(json.dumps(value) + "\n")
        ANSWERS.flush()

    try:
        answer(cluster.address)
        for line in sys.stdin:
            command, *arguments = line.split()
            if command == "add":
                answer(add())
            elif command == "kill":
                (prefix,) = arguments
                name = next(name for name in nodes if name.startswith(prefix))
                cluster.remove_node(nodes.pop(name), allow_graceful=False)
                answer(name)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
