"""make_keras.py: adds to this folder what tf2onnx and Keras' own exporter write: a DCGAN generator, a VAE decoder and an
anomaly autoencoder, NHWC as TensorFlow has them. Needs tensorflow-cpu and tf2onnx, in an environment of their own. Weights are
random: what counts is the form."""

import os
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import tensorflow as tf
import tf2onnx
from keras import layers

HERE = Path(__file__).resolve().parent


def networks():
    same = {"padding": "same"}
    return {
        # Keras' example of a GAN, smaller
        "kerasgan28": keras.Sequential([
            keras.Input((20,)), layers.Dense(7 * 7 * 24, use_bias=False), layers.BatchNormalization(), layers.LeakyReLU(),
            layers.Reshape((7, 7, 24)), layers.Conv2DTranspose(17, 5, use_bias=False, **same), layers.BatchNormalization(),
            layers.LeakyReLU(), layers.Conv2DTranspose(12, 4, strides=2, **same), layers.BatchNormalization(), layers.ReLU(),
            layers.Conv2DTranspose(1, 2, strides=2, activation="tanh", **same),
        ]),
        # upsampling, depthwise and separable convolutions, SiLU
        "kerasvae32": keras.Sequential([
            keras.Input((6,)), layers.Dense(4 * 4 * 16, activation="relu"), layers.Reshape((4, 4, 16)),
            layers.UpSampling2D(2), layers.SeparableConv2D(17, 3, activation="silu", **same),
            layers.UpSampling2D(2, interpolation="bilinear"), layers.DepthwiseConv2D(3, **same), layers.ReLU(6.0),
            layers.UpSampling2D(2), layers.Conv2D(3, 3, activation="sigmoid", **same),
        ]),
        # MLPerf Tiny's autoencoder for anomalies, narrower
        "kerasanomaly64": keras.Sequential([
            keras.Input((64,)),
            *[layer for size in (24, 24, 8, 24, 24)
              for layer in (layers.Dense(size), layers.BatchNormalization(), layers.ReLU())],
            layers.Dense(64),
        ]),
    }


def main():
    print(f"tensorflow {tf.__version__}, keras {keras.__version__}, tf2onnx {tf2onnx.__version__}")
    for name, network in networks().items():
        keras.utils.set_random_seed(len(name))
        for layer in network.layers:
            weights = layer.get_weights()
            # of batch norms: factors, summands, means, variances
            if isinstance(layer, layers.BatchNormalization):
                shape = weights[0].shape
                draw = lambda low, high: tf.random.uniform(shape, low, high).numpy()
                layer.set_weights([draw(0.5, 1.5), draw(-0.3, 0.3), draw(-0.2, 0.2), draw(0.5, 2.0)])
        signature = [tf.TensorSpec((None, *network.input_shape[1:]), tf.float32, name="latent")]
        function = tf.function(lambda latent: network(latent, training=False), input_signature=signature)
        tf2onnx.convert.from_function(
            function, input_signature=signature, opset=17, output_path=str(HERE / f"{name}.tf2onnx.onnx")
        )
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "m.onnx")
            network.export(path, format="onnx", verbose=False)
            (HERE / f"{name}.keras.onnx").write_bytes(Path(path).read_bytes())


main()
