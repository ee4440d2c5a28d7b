// Runs model.tflite on pictures and on the camera's frames. Values inside the model are level / 127.5 - 1, as
// cut_tf/common/images.py has them.
import {isWebGPUSupported, loadAndCompile, loadLiteRt, Tensor} from '@litertjs/core';

const MODEL = 'model.tflite';
const HALF_RANGE = 127.5;
// Frames over which their number per second is averaged.
const AVERAGED_FRAMES = 30;

const element = (id) => document.getElementById(id);
const video = element('video');
let compiled = null;
let size = null;  // of the model: {height, width}
let turn = 0;  // the camera runs until it changes
let queue = Promise.resolve();

function say(sentence, isWrong = false) {
  element('said').textContent = sentence;
  element('said').classList.toggle('wrong', isWrong);
}

/** Loads the model for a processor, `wasm` (the CPU) or `webgpu`. Throws if the model is not one picture to one. */
async function load(processor) {
  const model = await loadAndCompile(MODEL, {accelerator: processor});
  const shapes = [model.getInputDetails(), model.getOutputDetails()].map(
      (details) => details.map((tensor) => [tensor.dtype, ...tensor.shape].join(' ')));
  const [, height, width] = model.getInputDetails()[0].shape;
  const expected = `float32 1 ${height} ${width} 3`;
  if (height < 1 || width < 1 || shapes.some((found) => found.length !== 1 || found[0] !== expected)) {
    model.delete();
    throw new Error(`${MODEL} must take and give one float32 picture of a fixed size, found ${shapes.join(' to ')}`);
  }
  compiled?.delete();
  compiled = model;
  size = {height, width};
  for (const canvas of [element('before'), element('after')]) {
    Object.assign(canvas, size);
  }
}

/** RGBA levels to network values, without alpha: Float32Array of height * width * 3. */
function toValues(levels) {
  const values = new Float32Array(levels.length / 4 * 3);
  for (let from = 0, to = 0; from < levels.length; from += 4) {
    values[to++] = levels[from] / HALF_RANGE - 1;
    values[to++] = levels[from + 1] / HALF_RANGE - 1;
    values[to++] = levels[from + 2] / HALF_RANGE - 1;
  }
  return values;
}

/** Network values to opaque RGBA levels. The array itself clips, and rounds to the nearest level. */
function toLevels(values) {
  const levels = new Uint8ClampedArray(values.length / 3 * 4).fill(255);
  for (let from = 0, to = 0; from < values.length; from += 3, to += 4) {
    levels[to] = (values[from] + 1) * HALF_RANGE;
    levels[to + 1] = (values[from + 1] + 1) * HALF_RANGE;
    levels[to + 2] = (values[from + 2] + 1) * HALF_RANGE;
  }
  return levels;
}

/** Translates a part of an image or video, resized to the model's size. Returns the milliseconds that the model took. */
async function translate(source, left, top, width, height) {
  const before = element('before').getContext('2d', {willReadFrequently: true});
  before.drawImage(source, left, top, width, height, 0, 0, size.width, size.height);
  const {data} = before.getImageData(0, 0, size.width, size.height);
  const start = performance.now();
  const input = new Tensor(toValues(data), [1, size.height, size.width, 3]);
  let outputs = [];
  try {
    outputs = await compiled.run(input);
    const values = await outputs[0].data();
    const milliseconds = performance.now() - start;
    const levels = toLevels(values);
    element('after').getContext('2d').putImageData(new ImageData(levels, size.width, size.height), 0, 0);
    return milliseconds;
  } finally {
    [input, ...outputs].forEach((tensor) => tensor.delete());
  }
}

/** The largest part in the middle of the camera's frame that has the model's shape: [left, top, width, height]. */
function middle(frame) {
  const scale = Math.min(frame.videoWidth / size.width, frame.videoHeight / size.height);
  const [width, height] = [size.width * scale, size.height * scale];
  return [(frame.videoWidth - width) / 2, (frame.videoHeight - height) / 2, width, height];
}

function showShape(width, height) {
  for (const canvas of [element('before'), element('after')]) {
    canvas.style.aspectRatio = `${width} / ${height}`;
  }
}

async function runCamera(mine) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia(
        {video: {facingMode: 'environment', width: {ideal: 640}}, audio: false});
  } catch (error) {
    say(`The camera cannot be used: ${error.message || error.name}`, true);
    return;
  }
  try {
    video.srcObject = stream;
    await video.play();
    showShape(size.width, size.height);
    element('stop').disabled = false;
    const times = [];
    while (turn === mine) {
      const milliseconds = await translate(video, ...middle(video));
      times.push(performance.now());
      if (times.length > AVERAGED_FRAMES) {
        times.shift();
      }
      if (times.length > 1) {
        const rate = (times.length - 1) / (times.at(-1) - times[0]) * 1000;
        say(`${size.width}x${size.height} px: ${rate.toFixed(1)} frames per second, ` +
            `${milliseconds.toFixed(0)} ms in the model`);
      }
      await new Promise(requestAnimationFrame);
    }
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    element('stop').disabled = true;
  }
}

async function runPicture(file) {
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    say(`${file.name}: must be a picture that this browser can show, found ${file.size} bytes of ` +
        `${file.type || 'an unknown kind'}`, true);
    return;
  }
  showShape(picture.width, picture.height);
  const milliseconds = await translate(picture, 0, 0, picture.width, picture.height);
  say(`${file.name}: ${picture.width}x${picture.height} px, translated at ${size.width}x${size.height} px in ` +
      `${milliseconds.toFixed(0)} ms`);
  picture.close();
}

/** One thing at a time: what is started ends the camera and waits for what runs. Errors become sentences. */
function inTurn(work) {
  const mine = ++turn;
  queue = queue.then(() => work(mine)).catch((error) => say(`This did not work: ${error.message || error}`, true));
}

async function start() {
  await loadLiteRt('./runtime/wasm/');
  await load('wasm');
  if (isWebGPUSupported()) {
    element('processor').append(new Option('GPU', 'webgpu'));
  }
  element('camera').onclick = () => inTurn(runCamera);
  element('stop').onclick = () => turn++;
  element('file').onchange = ({target}) => target.files.length && inTurn(() => runPicture(target.files[0]));
  element('processor').onchange = ({target}) => inTurn(async () => {
    say('Loading the model ...');
    await load(target.value);
    say('Ready.');
  });
  for (const id of ['camera', 'file', 'processor']) {
    element(id).disabled = false;
  }
  say('Ready.');
}

start().catch((error) => say(`The model cannot be run in this browser: ${error.message || error}`, true));
