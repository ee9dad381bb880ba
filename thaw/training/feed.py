"""How examples reach a model: by row number where they lie on the device, batch by batch where they are too many."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from thaw.data.examples import Examples
from thaw.network.backend import active_device
from thaw.network.batches import CountBatches, in_batches, read_ahead
from thaw.network.inference import compiles
from thaw.network.replicas import active_replicas, predict_divided
from thaw.network.seeds import random_generator
from thaw.runtime.progress import unseen


@dataclass(frozen=True)
class BatchPlan:
    """Which examples make up each batch, and how they are mixed.

    Mixup: each batch is mixed with itself in another order, inputs and labels alike. Zhang et al.,
    "mixup" (2018); of activations: Verma et al., "Manifold Mixup" (2019).

    Attributes:
        rows: (steps, batch size); sorted within a batch, where order has no effect, so that a memory
            map is read in one direction.
        partners: (steps, batch size), places within the batch of what each is mixed with; None does not mix.
        shares: (steps,), what each keeps of itself, float32.
    """

    rows: np.ndarray
    partners: np.ndarray | None = None
    shares: np.ndarray | None = None

    @classmethod
    def draw(cls, count: int, batch_size: int, mixup: float, *seed: object) -> "BatchPlan":
        """A random order of `count` examples, without a last short batch.

        Args:
            mixup: shares are drawn from Beta(mixup, mixup), once for a batch; 0 does not mix.
            seed: what the draws follow.
        """
        steps = count // batch_size
        order = random_generator(*seed, "order").permutation(count)[: steps * batch_size]
        rows = np.sort(order.reshape(steps, batch_size), axis=1)
        if not mixup:
            return cls(rows)
        generator = random_generator(*seed, "mixup")
        places = np.tile(np.arange(batch_size), (steps, 1))
        shares = generator.beta(mixup, mixup, steps).astype(np.float32)
        return cls(rows, generator.permuted(places, axis=1), shares)

    def targets(self, labels: np.ndarray, classes: int, smoothing: float = 0.0) -> np.ndarray:
        """Labels as shares of the classes, float32 (steps * batch size, classes).

        Label smoothing is from Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2016).
        """
        own = np.eye(classes, dtype=np.float32)[labels[self.rows]]
        if self.partners is not None and self.shares is not None:
            other = np.take_along_axis(own, self.partners[:, :, None], axis=1)
            share = self.shares[:, None, None]
            own = share * own + (1 - share) * other
        if smoothing:
            own = (1 - smoothing) * own + np.float32(smoothing / classes)
        return own.reshape(-1, classes)


class Batches(keras.utils.PyDataset):
    """Examples in batches, read as they are asked for.

    Attributes:
        seconds: spent on making batches so far. TensorFlow makes them beside the steps, so that these
            wait no longer than that; JAX makes each between two steps, which wait just that long.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        targets: np.ndarray,
        plan: BatchPlan | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        """Take the examples that `plan` names, else all as they lie; `targets` and `weights` are in the same order."""
        super().__init__()
        self.examples, self.batch_size, self.targets, self.plan = examples, batch_size, targets, plan
        self.weights = weights
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self.plan.rows) if self.plan else math.ceil(len(self.examples) / self.batch_size)

    def __getitem__(self, number: int):
        started = time.perf_counter()
        place = slice(number * self.batch_size, (number + 1) * self.batch_size)
        own = active_replicas().share(self.batch_size)
        if self.plan is None:
            # A slice of a memory map is not read before it is copied.
            inputs: Any = np.array(self.examples.inputs[place])
        else:
            rows = self.plan.rows[number]
            inputs = self.examples.inputs[rows[own]]
            if self.plan.partners is not None and self.plan.shares is not None:
                share, partners = np.full(len(inputs), self.plan.shares[number]), self.plan.partners[number][own]
                # Other processes have partners of theirs.
                other = inputs[partners] if len(inputs) == len(rows) else self.examples.inputs[rows[partners]]
                inputs = {"own": inputs, "other": other, "share": share}
            place = slice(place.start + own.start, place.start + own.stop)
        self.seconds += time.perf_counter() - started
        return (inputs, self.targets[place]) + (() if self.weights is None else (self.weights[place],))


def _whole(dtype: object) -> bool:
    return keras.backend.standardize_dtype(dtype) == "uint8"


class Rows(keras.layers.Layer):
    """Rows, by number, of an array that lies on the device.

    Args:
        like: an array of the shape and type.
    """

    def __init__(self, like: np.ndarray) -> None:
        super().__init__(name="rows", trainable=False)
        self.array = self.add_weight(
            shape=like.shape, dtype=like.dtype.name, initializer="zeros", trainable=False, autocast=False
        )
        self.loaded: np.ndarray | None = None

    def load(self, array: np.ndarray) -> None:
        """Put an array onto the device, unless it is there."""
        if array is not self.loaded:
            self.array.assign(np.asarray(array))
            self.loaded = array

    def call(self, numbers):
        return keras.ops.take(self.array, numbers, axis=0)

    def compute_output_spec(self, numbers):
        return keras.KerasTensor((*numbers.shape, *self.array.shape[1:]), self.array.dtype)


class Blend(keras.layers.Layer):
    """share * own + (1 - share) * other, of two batches (n, ...) and shares (n,), in float32; images stay uint8."""

    def __init__(self) -> None:
        super().__init__(name="blend", dtype="float32")

    def call(self, own, other, share):
        share = keras.ops.reshape(share, (-1, *[1] * (len(own.shape) - 1)))
        own, dtype = keras.ops.cast(own, "float32"), own.dtype
        mixed = share * own + (1 - share) * keras.ops.cast(other, "float32")
        return keras.ops.cast(keras.ops.round(mixed), dtype) if _whole(dtype) else mixed

    def compute_output_spec(self, own, other, share):
        return keras.KerasTensor(own.shape, own.dtype if _whole(own.dtype) else "float32")


class WatchLoss(CountBatches):
    """Counts batches, and ends an epoch soon after a loss that is not finite; no step waits for either."""

    def __init__(self, reach: Callable[[int], None] = unseen) -> None:
        super().__init__(reach)
        self._bad: list[int] = []

    @property
    def step(self) -> int | None:
        """The first step, counted from 1, whose loss was not finite; None if all were."""
        return min(self._bad, default=None)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        # The mean over the epoch so far: once it is not finite, it never is again.
        if logs is not None and not math.isfinite(logs["loss"]):
            self._bad.append(batch + 1)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        # Processes that stopped at different steps would wait for each other for ever.
        if self._bad and active_replicas().processes.count == 1:
            self.model.stop_training = True


class Feed:
    """A model with its way of being fed.

    Examples of up to `active_device().data_gb` are kept on the device, and batches only name them: the
    step then waits for nothing. What is larger is read batch by batch. Of several replicas each device has all of
    them: were they divided, too, each step would send its whole batch from each device to all others. Each of several
    processes reads its own examples of each batch.

    Attributes:
        model: over the weights of the model that it was made for; to be compiled.
        seconds: spent on bringing examples to the device so far, at which steps may have waited.
        bad_step: of the last fit, the first step, counted from 1, whose loss was not finite; None if all were.
    """

    def __init__(self, model: keras.Model, like: Examples, batch_size: int, mixes: bool) -> None:
        """Feed `model`.

        Args:
            like: examples of the shape, type and number that it will get.
            batch_size: examples per step.
            mixes: whether plans will mix them.
        """
        self.batch_size, self.classes = batch_size, model.output_shape[-1]
        self.seconds = 0.0
        self.bad_step: int | None = None
        fits = like.inputs.nbytes <= active_device().data_gb * 1e9
        self.rows = Rows(like.inputs) if fits and active_replicas().processes.count == 1 else None

        def entry(name: str):
            if self.rows is None:
                # uint8 images as they are; the model casts the activations that it is given.
                numbers = inputs = keras.Input(like.inputs.shape[1:], dtype=like.inputs.dtype.name, name=name)
            else:
                numbers = keras.Input((), dtype="int32", name=name)
                inputs = self.rows(numbers)
            return numbers, inputs

        start, x = entry("own")
        if mixes:
            other, y = entry("other")
            share = keras.Input((), name="share")
            start = {"own": start, "other": other, "share": share}
            x = Blend()(x, y, share)
        self.model = keras.Model(start, model(x))

    def compile(self, optimizer: keras.optimizers.Optimizer | None = None, steps_at_once: int = 1) -> None:
        """Get ready to evaluate the cross-entropy and the accuracy and, with an optimizer, to train.

        Args:
            optimizer: None where there is only to be evaluated.
            steps_at_once: steps for each call of the compiled code; does not show in the results.
        """
        self.model.compile(
            optimizer=optimizer,
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=compiles(self.model),
            steps_per_execution=1 if active_replicas().waits else steps_at_once,
        )
        # TensorFlow would make what is missing while it traces the first step, and trace that a second
        # time: half of the 13 s that it took for MobileNetV2, all thawed.
        if optimizer is not None:
            optimizer.build(self.model.trainable_variables)
        anything = np.zeros((1, self.classes), np.float32)
        self.model.compute_metrics(None, anything, anything)
        self.model.reset_metrics()

    def fit(
        self,
        examples: Examples,
        plan: BatchPlan,
        class_weights: np.ndarray | None = None,
        reach: Callable[[int], None] = unseen,
        smoothing: float = 0.0,
    ) -> dict[str, float]:
        """Train for the batches of a plan; loss and accuracy over them.

        Args:
            class_weights: what an example of each class counts in the loss, (classes,); a mixed one counts as its
                shares do. None: all the same.
            reach: called with the number of steps done, from any thread.
            smoothing: share of each label that is spread over all classes.
        """
        started, watch = time.perf_counter(), WatchLoss(reach)
        options = {"shuffle": False, "verbose": 0, "callbacks": [watch]}
        targets = plan.targets(examples.labels, self.classes, smoothing)
        weights = None if class_weights is None else targets @ class_weights
        if self.rows is None:
            self.seconds += time.perf_counter() - started
            batches = Batches(examples, self.batch_size, targets, plan, weights)
            logs = self.model.fit(read_ahead(batches), **options).history
            self.seconds += batches.seconds
        else:
            self.rows.load(examples.inputs)
            start: Any = plan.rows.reshape(-1).astype(np.int32)
            if plan.partners is not None and plan.shares is not None:
                other = np.take_along_axis(plan.rows, plan.partners, axis=1).reshape(-1).astype(np.int32)
                start = {"own": start, "other": other, "share": np.repeat(plan.shares, self.batch_size)}
            arrays = in_batches(self.batch_size, start, targets, weights)
            self.seconds += time.perf_counter() - started
            logs = self.model.fit(**arrays, **options).history
        self.bad_step = watch.step
        return {name: values[0] for name, values in logs.items()}

    def steps(self, examples: Examples) -> int:
        """Steps that it takes to evaluate these examples."""
        return math.ceil(len(examples) / self.batch_size)

    def evaluate(self, examples: Examples, reach: Callable[[int], None] = unseen) -> dict[str, float]:
        """Loss and accuracy over all examples as they lie; `reach` is called with the number of steps done."""
        if active_replicas().count > 1:
            return self._evaluate_logits(examples, reach)
        options = {"verbose": 0, "return_dict": True, "callbacks": [CountBatches(reach)]}
        targets = np.eye(self.classes, dtype=np.float32)[examples.labels]
        if self.rows is None:
            return self.model.evaluate(read_ahead(Batches(examples, self.batch_size, targets)), **options)
        self.rows.load(examples.inputs)
        numbers = np.arange(len(examples), dtype=np.int32)
        return self.model.evaluate(**in_batches(self.batch_size, numbers, targets), **options)

    def _evaluate_logits(self, examples: Examples, reach: Callable[[int], None]) -> dict[str, float]:
        """As `evaluate`: its last batch may be one that the replicas do not divide, which Keras refuses."""
        from scipy import special  # imported here: as in `fit_temperature`

        inputs: Any = examples.inputs
        if self.rows is not None:
            self.rows.load(examples.inputs)
            inputs = np.arange(len(examples), dtype=np.int32)

        def reach_steps(rows: int) -> None:
            reach(math.ceil(rows / self.batch_size))

        rows = np.arange(len(examples))
        (logits,) = predict_divided(self.model, inputs, rows, self.batch_size, reach_steps)
        loss = -special.log_softmax(np.asarray(logits, np.float64), axis=1)[rows, examples.labels].mean()
        return {"loss": float(loss), "accuracy": float(np.mean(logits.argmax(axis=1) == examples.labels))}
