// The microphone, as a 16-bit WAV: what MediaRecorder gives (WebM, Opus) the server cannot decode.

export const LONGEST = 600; // seconds

export class Recorder {
  constructor(heard) {
    this.heard = heard; // is told the seconds so far
    this.context = null;
  }

  get running() {
    return Boolean(this.context);
  }

  async start() {
    const plain = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    this.stream = stream;
    this.pieces = [];
    this.samples = 0;
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("static/capture.js");
    const capture = new AudioWorkletNode(this.context, "capture", { numberOfOutputs: 0 });
    capture.port.onmessage = ({ data }) => {
      if (!this.running) return;
      this.pieces.push(data);
      this.samples += data.length;
      this.heard(this.samples / this.context.sampleRate);
    };
    this.context.createMediaStreamSource(stream).connect(capture);
  }

  // The recording as a file; null where there is none.
  async stop() {
    const { context } = this;
    if (!context) return null;
    this.context = null;
    for (const track of this.stream.getTracks()) track.stop();
    await context.close();
    const now = new Date(), two = (number) => String(number).padStart(2, "0");
    const day = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
    const name = `recording_${day}_${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}.wav`;
    return this.samples ? new File([header(this.samples, context.sampleRate), ...this.pieces], name) : null;
  }
}

function header(samples, rate) {
  const view = new DataView(new ArrayBuffer(44)), bytes = 2 * samples;
  const text = (at, word) => [...word].forEach((letter, k) => view.setUint8(at + k, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, bytes, true);
  return view.buffer;
}
