"""Work that is launched again and again, replayed on a CUDA device as one graph."""

from __future__ import annotations

from collections.abc import Callable

import torch


def repeated(function: Callable[[], None], backend: str) -> Callable[[], None]:
    """The function, or what replays it, for many calls on the backend of that name: see `Replay` for what it asks.

    Examples
    --------
    >>> repeated(print, "cpu") is print
    True
    """
    return _REPLAYS.get(backend, lambda function: function)(function)


class Replay:
    """A function without arguments and result, run on a CUDA device as a graph: one launch for all its kernels.

    The first call runs it as it is, on a stream of its own, which compiles and allocates what comes into being at first
    use; the second one captures it, and every one from then on replays what was captured. All that the function reads
    and changes has to stay where it was.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._warm = False
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Run the function once."""
        if not self._warm:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._function()
            torch.cuda.current_stream().wait_stream(side)
            self._warm = True
            return
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._function()
            self._graph = graph
        self._graph.replay()


_REPLAYS: dict[str, Callable[[Callable[[], None]], Callable[[], None]]] = {"cuda": Replay}
