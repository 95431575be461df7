"""An objective on two real processes (gloo, DistributedDataParallel) against the same on one."""

import os
import socket
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def model():
    torch.manual_seed(0)
    return torch.nn.Linear(5, 6)


def samples(sizes):
    return torch.randn(sum(sizes), 5, generator=torch.Generator().manual_seed(5)).split(sizes)


def _worker(rank, port, objective, sizes, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=len(sizes), timeout=timedelta(seconds=60))
    ours = torch.nn.parallel.DistributedDataParallel(model())
    torch.manual_seed(100 + rank)  # unequal seeds: what is random must still agree
    try:
        value = objective(ours(samples(sizes)[rank]))
        value.backward()
        result = (value.detach(), ours.module.weight.grad, ours.module.bias.grad)
    except ValueError as error:
        result = str(error)
    torch.save(result, folder / f"{rank}.pt")
    dist.barrier()
    # Taken down in order, DDP waits, with the GIL, for a thread of gloo's that now and then waits
    # for the GIL: forever.
    os._exit(0)


def on_two_processes(objective, sizes, folder):
    """Value and gradients (weight, bias) on each rank, or the text of its ValueError."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # the package is imported once, by the server, and not again by every process
    mp.get_context("forkserver").set_forkserver_preload(["jepa_utils"])
    mp.start_processes(
        _worker, args=(port, objective, sizes, folder), nprocs=len(sizes), start_method="forkserver"
    )
    return [torch.load(folder / f"{rank}.pt") for rank in range(len(sizes))]


def assert_equals_one_process(objective, sizes, folder):
    """Every rank has the value and the parameter gradients of one process with the whole batch."""
    found = on_two_processes(objective, sizes, folder)
    one = model()
    torch.manual_seed(100)  # rank 0's
    value = objective(one(torch.cat(samples(sizes))))
    value.backward()
    for ours, weight, bias in found:
        assert torch.allclose(ours, value, rtol=1e-5)
        assert torch.allclose(weight, one.weight.grad, rtol=1e-4, atol=1e-6)
        assert torch.allclose(bias, one.bias.grad, rtol=1e-4, atol=1e-6)
