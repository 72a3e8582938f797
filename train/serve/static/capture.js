// Runs beside the sound: hands on the first channel as 16-bit integers, about ten times a second.

const BLOCK = 4096;

registerProcessor("capture", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
  }

  process([[channel]]) {
    for (const value of channel ?? []) {
      this.block[this.filled++] = Math.max(-1, Math.min(1, value)) * 32767;
      if (this.filled < BLOCK) continue;
      this.port.postMessage(this.block.slice());
      this.filled = 0;
    }
    return true;
  }
});
