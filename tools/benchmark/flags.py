"""The flags of all commands of the benchmark."""

from __future__ import annotations

from absl import flags

from cut_tf.networks import POLICIES

METHOD = flags.DEFINE_list("method", ["cut"], "methods whose step is measured")
PRECISION = flags.DEFINE_list("precision", ["float32"], f"of the step: {', '.join(POLICIES)}")
SIZE = flags.DEFINE_integer("size_px", None, "side of the square crops; the method's own if not given, mostly 256",
                             lower_bound=16)
BATCH = flags.DEFINE_integer("batch_size", None, "images of each domain per step; the method's own if not given",
                              lower_bound=1)
NGF = flags.DEFINE_integer("ngf", None, "width of generator and discriminator; the method's own if not given",
                            lower_bound=1)
BLOCKS = flags.DEFINE_integer("generator_blocks", None, "residual blocks of the generator; 9 if not given")
XLA = flags.DEFINE_bool("xla", False, "train_step: compile the step with XLA")
RECOMPUTE = flags.DEFINE_bool("recompute_blocks", False, "train_step: compute the residual blocks again in the "
                               "backward pass instead of keeping their activations")
REPEATS = flags.DEFINE_integer("repeats", 5, "measurements after the warm-up", lower_bound=1)
RUN = flags.DEFINE_string("run", "", "tflite: folder of the run")
SIZES = flags.DEFINE_string("sizes_px", "256,512", "scaling, translate, tflite, serving: sides of the square pictures")
BATCHES = flags.DEFINE_string("batches", "1,2,4,8", "scaling: images per step, at the smallest size")
IMAGES = flags.DEFINE_string("images", "", "input: folder of JPEG pictures; made-up ones of 480 x 320 if not given")
STEPS = flags.DEFINE_integer("steps", 200, "losses: steps of each run", lower_bound=1)
WINDOW = flags.DEFINE_integer("window", 50, "losses: steps of the moving average", lower_bound=1)
PAIRS = flags.DEFINE_integer("pairs", 64, "input: pairs of pictures of one measurement", lower_bound=1)
FORMS = flags.DEFINE_list("forms", [], "translate: forms of the generator; all if empty")
REPRESENTATIVE = flags.DEFINE_string("representative", "scenes", "tflite: typical inputs, as for cut_tf.export")
THREADS = flags.DEFINE_integer("threads", 2, "tflite: threads of the CPU", lower_bound=1)
RESNET = flags.DEFINE_bool("resnet", True, "tflite: measure CUT's ResNet of full width too, for scale")
SERVER = flags.DEFINE_string("server", "", "serving: HOST:PORT of a server")
PROTOCOL = flags.DEFINE_enum("protocol", "grpc", ("grpc", "rest"), "serving: how the server is called")
MODEL = flags.DEFINE_string("model", "dehaze_mobile", "serving: name of the model on the server")
PARALLEL = flags.DEFINE_string("parallel", "1,4,16", "serving: requests under way at the same time")
REQUESTS = flags.DEFINE_integer("requests", 100, "serving: requests of a row", lower_bound=1)
CSV = flags.DEFINE_string("csv", "", "serving: also write the rows to this CSV file, which tools.plots draws")
JSON = flags.DEFINE_bool("json", False, "print one JSON object per row")
flags.DEFINE_alias("size", "size_px")
flags.DEFINE_alias("batch", "batch_size")
