"""A bench whose first samples are a fair part of all."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from fixqnn.sweeps.evaluate import Bench, Task


class FairBench(Bench):
    """A bench that, for a part of the test set, takes samples in an order that its seed settles.

    Test sets may be sorted, by class or by how hard they are; a bound on all samples from the first ones needs a random order.
    The whole set is measured as it stands: its rows are those of a sweep.
    """

    @cached_property
    def shuffled(self) -> Bench:
        """The same bench, samples in random order."""
        order = np.random.default_rng([self.seed & 0xFFFFFFFF, self.samples]).permutation(self.samples)
        other = Bench.__new__(Bench)
        other.__setstate__(self.__getstate__())
        other.inputs = {name: array[order] for name, array in self.inputs.items()}
        other.labels = None if self.labels is None else self.labels[order]
        other.reference = {name: array[order] for name, array in self.reference.items()}
        return other

    def compute(self, task: Task) -> dict[str, Any]:
        """Compute a row, of some samples in random order, or of all."""
        return super().compute(task) if task.subset is None else self.shuffled.compute(task)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "shuffled"}
