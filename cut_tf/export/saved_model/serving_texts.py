"""Texts of the files that stand beside exported models for TF Serving; MODEL stands for a model's name."""

from __future__ import annotations

MODELS_HEAD = """\
# ModelServerConfig of TF Serving: one entry per model. The server reads this file again every 60 seconds.
model_config_list {
"""
MODEL_ENTRY = """\
  config {
    name: "MODEL"
    base_path: "/models/MODEL"
    model_platform: "tensorflow"
  }
"""
MODELS_TAIL = "}\n"

BATCHING = """\
# BatchingParameters of TF Serving: a queue that bounds memory and refuses early. It does not merge requests.
#
# Requests are not merged, because
#   * `image` and `image_float` merge only if all pictures have the same size; the server fails requests otherwise, and
#     padding them to one size would change the pixels near the edges;
#   * `serving_default` would merge any sizes, since its input is a list of strings, but it translates its pictures one
#     after the other: merging saves no time, and one damaged picture would fail the requests of other clients as well.
# If all of your clients send `image` in one size to a GPU, raise max_execution_batch_size.

# Most pictures in one request. A request with more is refused.
max_batch_size { value: 64 }
# Larger requests are taken apart into executions of this many pictures: never more than one request in an execution.
enable_large_batch_splitting { value: true }
max_execution_batch_size { value: 1 }
# Nothing is waited for.
batch_timeout_micros { value: 0 }
# Pictures that are translated at the same time. A generator of full width (--ngf=64) takes about 2.7 KB a pixel, that
# is 2.8 GB for a picture of 1,048,576 pixels.
num_batch_threads { value: 2 }
# Pictures that wait. With a full queue the server answers UNAVAILABLE at once, and python -m cut_tf.client tries again.
max_enqueued_batches { value: 256 }
"""

MONITORING = """\
# MonitoringConfig of TF Serving: counts and latencies for Prometheus on the REST port.
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""

COMPOSE = """\
services:
  serving:
    # TensorFlow 2.20 lies between the two versions that write these models, 2.15 and 2.21, which read each other's.
    image: tensorflow/serving:2.20.0
    command:
      - --model_config_file=/models/models.config
      - --model_config_file_poll_wait_seconds=60
      - --enable_batching=true
      - --batching_parameters_file=/models/batching.config
      - --monitoring_config_file=/models/monitoring.config
      # Of the REST interface; gRPC clients set their own deadlines.
      - --rest_api_timeout_in_ms=120000
    ports:
      # TF Serving asks nobody who they are, so it is reached from this machine only. 8500 is gRPC, 8501 REST.
      - "127.0.0.1:8500:8500"
      - "127.0.0.1:8501:8501"
    volumes:
      - .:/models:ro
    healthcheck:
      # The ports open when all models are loaded and warm. The image has bash, but no curl.
      test: ["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8500 4<>/dev/tcp/127.0.0.1/8501"]
      interval: 10s
      timeout: 5s
      retries: 3
      start_period: 5m
    restart: unless-stopped
"""

KUBERNETES = """\
# TF Serving on Kubernetes: kubectl apply -f kubernetes.yaml. The folder of models is what the claim `models` holds.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: serving
  labels: {app: serving}
spec:
  replicas: 2
  selector:
    matchLabels: {app: serving}
  template:
    metadata:
      labels: {app: serving}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "8501"
        prometheus.io/path: /monitoring/prometheus/metrics
    spec:
      containers:
        - name: serving
          image: tensorflow/serving:2.20.0
          args:
            - --model_config_file=/models/models.config
            - --model_config_file_poll_wait_seconds=60
            - --enable_batching=true
            - --batching_parameters_file=/models/batching.config
            - --monitoring_config_file=/models/monitoring.config
            - --rest_api_timeout_in_ms=120000
          ports:
            - {name: grpc, containerPort: 8500}
            - {name: rest, containerPort: 8501}
          # The ports open when all models are loaded and warm, which may take minutes.
          startupProbe:
            tcpSocket: {port: grpc}
            periodSeconds: 5
            failureThreshold: 60
          # Answers 404 for a model that the server does not have.
          readinessProbe:
            httpGet: {path: /v1/models/MODEL, port: rest}
            periodSeconds: 10
            timeoutSeconds: 5
          # Only a port that does not open: a busy server must not be restarted.
          livenessProbe:
            tcpSocket: {port: grpc}
            periodSeconds: 20
            timeoutSeconds: 5
            failureThreshold: 6
          resources:
            # num_batch_threads of batching.config pictures at a time. A generator of full width (--ngf=64) needs 2.8 GB
            # for each picture of the largest size, the light one 0.2 GB.
            requests: {cpu: "2", memory: 2Gi}
            limits: {memory: 6Gi}
          volumeMounts:
            - {name: models, mountPath: /models, readOnly: true}
      volumes:
        - name: models
          persistentVolumeClaim: {claimName: models, readOnly: true}
---
apiVersion: v1
kind: Service
metadata:
  name: serving
spec:
  # gRPC keeps one connection: clients in the cluster share its pods evenly only through a proxy that knows HTTP/2.
  selector: {app: serving}
  ports:
    - {name: grpc, port: 8500, targetPort: grpc}
    - {name: rest, port: 8501, targetPort: rest}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: serving
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: serving}
  minReplicas: 2
  maxReplicas: 8
  metrics:
    # Translation is bound by the CPU, so its use follows the load. It counts against requests.cpu.
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: 70}
  behavior:
    # A new pod is of use only once it is warm.
    scaleDown: {stabilizationWindowSeconds: 300}
"""

README = """\
# Models for TF Serving

One folder a model, one numbered folder a version. `python -m cut_tf.export --run=DIR --output=HERE/NAME` adds versions,
and new models to `models.config`. TF Serving serves the highest version of each model, and loads a new one, with its
warm-up requests if it has any (`--size`), before it lets go of the old.

## Start

In this folder, with Docker:

```bash
docker compose up --detach --wait
```

or without compose:

```bash
docker run --rm -p 127.0.0.1:8500:8500 -p 127.0.0.1:8501:8501 -v "$PWD:/models:ro" tensorflow/serving:2.20.0 \\
  --model_config_file=/models/models.config --model_config_file_poll_wait_seconds=60 \\
  --enable_batching=true --batching_parameters_file=/models/batching.config \\
  --monitoring_config_file=/models/monitoring.config --rest_api_timeout_in_ms=120000
```

or with a `tensorflow_model_server` of your own: the same flags with `--port=8500 --rest_api_port=8501`, and this folder
as `/models`. The ports are open to this machine only, since TF Serving asks nobody who they are; put a proxy with TLS
and a login before it for others.

## Call

```bash
python -m cut_tf.client --server=127.0.0.1:8500 --protocol=grpc --model=MODEL --input=photos --output=results
python -m cut_tf.client --server=127.0.0.1:8501 --protocol=rest --model=MODEL --input=photos --output=results
```

(`pip install "cut_tf[serving]"`), or with curl, for a JPEG, PNG, BMP or GIF:

```bash
(printf '{"instances": [{"b64": "'; base64 < photo.jpg | tr -d '\\n'; printf '"}]}') > request.json
curl --fail-with-body --silent --data @request.json http://127.0.0.1:8501/v1/models/MODEL:predict > answer.json
python3 -c "import json; print(json.load(open('answer.json'))['predictions'][0]['b64'])" | base64 -d > result.png
```

Signatures: `serving_default` (encoded pictures in, PNG out), `image` (uint8 [B, H, W, 3]), `image_float` (float32 in
[-1, 1]), and `with_strength`, which keeps a part of the translation, `strength` from 0, the input, to 1, all of it:

```bash
printf '{"signature_name": "with_strength", "instances": [{"image_bytes": {"b64": "%s"}, "strength": 0.5}]}' \\
  "$(base64 < photo.jpg | tr -d '\\n')" > request.json
curl --fail-with-body --silent --data @request.json http://127.0.0.1:8501/v1/models/MODEL:predict > answer.json
python3 -c "import json; print(json.load(open('answer.json'))['predictions'][0]['b64'])" | base64 -d > half.png
```

By REST `strength` must be given; by gRPC it is 1 if it is left out. Python gRPC clients of your own refuse answers
above 4 MB unless the channel is made with `("grpc.max_receive_message_length", BYTES)`.

## Roll back

Name the version to serve in `models.config`, behind `model_platform`; the server follows within 60 seconds, without a
restart:

```
    model_version_policy { specific { versions: 1 } }
```

From then on the export command leaves `models.config` alone, and prints what to add for new models.

## Watch

```bash
curl --silent http://127.0.0.1:8501/v1/models/MODEL
curl --silent http://127.0.0.1:8501/monitoring/prometheus/metrics
docker compose ps
```

show the state of each version, counts and latencies for Prometheus, and whether the container is healthy. A model is
ready when the first answers with the state AVAILABLE. `kubernetes.yaml` has that address as its readiness probe. Memory
and queue are set in `batching.config`.
"""
