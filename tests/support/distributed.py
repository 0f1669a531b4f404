"""Fits and trainings on several replicas, for the tests and for the processes that they start.

A process that is to have two CPUs must say so before TensorFlow starts: `two_cpus` comes first there.
"""

import keras
import numpy as np
from models import normal, randomize

import innvest_lite.callbacks

# No multiple of anything: the last batch is too small for two replicas.
SAMPLES = 37
WEIGHTS = np.arange(SAMPLES) % 3


def two_cpus():
    """A strategy of two replicas, in a process of which TensorFlow has not started."""
    import tensorflow as tf

    cpu, two = tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    return strategy


def small(seed=3):
    """A model with a convolution, BatchNormalization and a sum, from weights that every process can make."""
    x = keras.Input((6, 6, 2), name="x")
    value = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 3, padding="same", name="conv")(x))
    value = keras.layers.ReLU()(keras.layers.Add(name="add")([value, keras.layers.Conv2D(4, 1, name="skip")(x)]))
    value = keras.layers.GlobalAveragePooling2D(name="pool")(value)
    return randomize(keras.Model(x, keras.layers.Dense(3, activation="softmax", name="out")(value)), seed)


def samples():
    return normal(SAMPLES, 6, 6, 2, seed=5)


def source(name):
    """The samples as a source of that name, in batches of eight."""
    import tensorflow as tf

    x = samples()
    batches = [x[start : start + 8] for start in range(0, len(x), 8)]
    return {
        "array": lambda: x,
        "generator": lambda: iter(batches),
        "tf.data": lambda: tf.data.Dataset.from_tensor_slices(x).batch(8),
        "list": lambda: batches,
    }[name]()


def fit(model, data, **options):
    return innvest_lite.fit_statistics(model, data, verbose=0, **{"batch_size": 8, **options})


def fit_on_two_replicas(folder, names):
    """Saves a fit of each source; "weighted" is the array with weights, "one" are fewer samples than replicas."""
    strategy = two_cpus()
    with strategy.scope():
        model = small()
    for name in names:
        if name == "weighted":
            found = fit(model, samples(), sample_weight=WEIGHTS)
        elif name == "one":
            found = fit(model, samples()[:1], batch_size=1)
        else:
            # Outside the scope: the model knows its strategy.
            found = fit(model, source(name))
        found.save(f"{folder}/{name}.h5")


def fit_as_worker(folder, name):
    """What one of several workers does, of which TF_CONFIG tells."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = small()
    worker = strategy.cluster_resolver.task_id
    fit(model, source(name), checkpoint=f"{folder}/run.h5").save(f"{folder}/result-{worker}.h5")
    fit(model, samples(), shard=(1, 2)).save(f"{folder}/shard-{worker}.h5")


def explained_on_two_replicas(folder):
    """Trains with explanations; how far the last ones are from those of the same weights outside of any strategy."""
    strategy = two_cpus()
    import trainings

    images, fit_data = trainings.DIGITS[:3], trainings.DIGITS[:64]
    with strategy.scope():
        model = trainings.small()
    callback, values = innvest_lite.callbacks.ExplanationCallback(data=images, log_dir=folder, fit_data=fit_data), []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: values.append(callback._analyzer.analyze(images)))
    trainings.trained(model, callback, watch)
    alone = trainings.small()
    alone.set_weights(model.get_weights())
    expected = innvest_lite.PatternAttribution(alone).fit(fit_data, verbose=0).analyze(images)
    return np.abs(values[-1] - expected).max() / np.abs(expected).max()
