"""The step of CycleGAN, GcGAN and DistanceGAN: generators first, then discriminators, which see earlier outputs too."""

from __future__ import annotations

import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.methods import replicas, unpaired
from cut_tf.settings import Settings


class ImagePool(tf.Module):
    """Earlier outputs that a discriminator also sees (Shrivastava et al., CVPR 2017; CycleGAN, section 4).

    The rule is that of the official code of CycleGAN, image by image. Until the pool is full, an image is added to it
    and seen itself. From then on, with probability 1/2, it replaces a random image of the pool, which is seen instead.

    Args:
      size: images that the pool holds.
      side_px: side of the square images.
    """

    def __init__(self, size: int, side_px: int) -> None:
        super().__init__()
        self.size = size
        self.images = replicas.step_variable(tf.zeros([size, side_px, side_px, 3]), tf.float32)
        self.count = replicas.step_variable(0, tf.int64)

    def exchange(self, images: tf.Tensor, swaps: tf.Tensor, slots: tf.Tensor) -> tf.Tensor:
        """Adds images to the pool, and returns the images that the discriminator sees instead.

        Args:
          images: float32 [N, H, W, 3].
          swaps: bool [N], whether an image is exchanged if the pool is full.
          slots: int32 [N] in [0, size), the place in the pool that each is exchanged with.

        Returns:
          float32 [N, H, W, 3].
        """
        order = tf.range(tf.shape(images)[0])
        position = tf.cast(self.count, tf.int32) + order
        filling = position < self.size
        slot = tf.where(filling, position, tf.where(swaps, slots, -1))
        # An image may be exchanged with an earlier one of the same batch: the last one that took the same slot.
        earlier = (slot[:, None] == slot) & (order[:, None] > order)
        last = tf.reduce_max(tf.where(earlier, order, -1), axis=1)
        exchanged = ~filling & (slot >= 0)
        from_batch = tf.gather(images, tf.where(exchanged & (last >= 0), last, order))
        seen = tf.where(_of_images(exchanged & (last < 0)), tf.gather(self.images, tf.maximum(slot, 0)), from_batch)
        writer = tf.reduce_max(tf.where(slot == tf.range(self.size)[:, None], order, -1), axis=1)
        self.images.assign(tf.where(_of_images(writer >= 0), tf.gather(images, tf.maximum(writer, 0)), self.images))
        self.count.assign(tf.minimum(self.count + tf.size(order, tf.int64), self.size))
        return seen


def _of_images(flags: tf.Tensor) -> tf.Tensor:
    return flags[:, None, None, None]


class PooledMethod(unpaired.UnpairedMethod):
    """Base of the methods with the order of updates of the official code of CycleGAN.

    In a step the generators are updated first. Then each discriminator is updated on half the sum of its losses, on
    real images and on its pool's exchange for the outputs from before the generators' update.

    With several replicas, each holds the whole pool. It gathers the outputs of all, exchanges them by the same draws,
    and keeps its own part of the result. So pools and results are those of one replica with the global batch.

    Attributes:
      generators: names of the networks updated together on `_objective`.

    Raises:
      InputError: if images may differ in size, which a pool cannot hold.
    """

    generators: tuple[str, ...] = ("generator",)

    def __init__(self, settings: Settings) -> None:
        size = settings.pool.pool_images
        if size and settings.data.preprocess == "none":
            raise InputError(f"--pool_images must be 0 with --preprocess=none, whose images may differ in size, "
                             f"found {size}")
        super().__init__(settings)
        self.pools = {name: ImagePool(size, settings.data.crop_size_px) for name in self.discriminators} if size else {}

    def _objective(self, batch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor],
                                                               dict[str, tuple[tf.Tensor, tf.Tensor]]]:
        """The terms whose sum the generators minimise, and (real, fake) images by discriminator."""
        raise NotImplementedError

    def _take_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """As `train_step`. Terms are weighted, and `loss/generator` is the sum of the generators' terms."""
        with tf.GradientTape() as tape:
            terms, images = self._objective(batch)
            terms.update(self.regularize(images["discriminator"][1], batch["target"], batch["source"],
                                         same_scene=False))
            terms["loss/generator"] = tf.add_n([value for name, value in terms.items() if name.startswith("loss/")])
            scaled = self.scale(terms["loss/generator"])
        terms.update(self.update_networks(self.generators, tape, scaled))
        for name, (real, fake) in images.items():
            terms.update(self._update_discriminator(real, self._pooled(fake, name), name))
        return terms

    def _translate(self, name: str, parts: list[tf.Tensor]) -> list[tf.Tensor]:
        """Outputs of a generator, in one pass unless the parts would influence each other, as with batch norm."""
        network = self.networks[name]
        if not self._one_pass_for(parts) or self.generator.mixes_batch:
            return [network(part, training=True) for part in parts]
        return tf.split(network(tf.concat(parts, 0), training=True), len(parts))

    def _pooled(self, fake: tf.Tensor, name: str) -> tf.Tensor:
        """The images that the discriminator sees instead of this replica's outputs [B, H, W, 3]."""
        if not self.pools:
            return fake
        whole_batch = replicas.gather_over_replicas(fake)
        count = tf.shape(whole_batch)[:1]
        draws = tf.random.stateless_uniform(count, self.discriminator_seed(unpaired.POOL_SWAP, name), alg="philox")
        slots = tf.random.stateless_uniform(count, self.discriminator_seed(unpaired.POOL_SLOT, name), 0,
                                            self.pools[name].size, tf.int32, alg="philox")
        return replicas.own_part(self.pools[name].exchange(whole_batch, draws > 0.5, slots))

    def state(self) -> dict[str, tf.Variable]:
        state = super().state()
        for name, pool in self.pools.items():
            state.update({f"pool/{name}/images": pool.images, f"pool/{name}/count": pool.count})
        return state


def l1(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference: a scalar."""
    return tf.reduce_mean(tf.abs(one - other))
