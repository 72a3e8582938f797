// Sound: spans of the recording as WAVs that the server makes, one after the other.

export class Player {
  constructor(longest, changed) {
    this.longest = longest; // seconds of one WAV
    this.changed = changed;
    this.audio = new Audio();
    this.audio.preload = "auto";
    this.reset(null, 0);
    this.audio.addEventListener("ended", () => this.#ended());
    for (const name of ["play", "pause", "error"]) this.audio.addEventListener(name, changed);
  }

  reset(id, seconds) {
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.id = id;
    this.seconds = seconds;
    this.span = null; // [start, end] of the WAV
    this.exact = false; // whether it ends where a segment does
  }

  get playing() {
    return Boolean(this.span) && !this.audio.paused;
  }

  get failed() {
    return Boolean(this.span && this.audio.error);
  }

  get time() {
    return this.span ? Math.min(this.span[0] + this.audio.currentTime, this.span[1]) : 0;
  }

  // From a time on, to the recording's end.
  play(from) {
    const at = Math.max(0, from < this.seconds ? from : 0);
    const inside = this.span && !this.exact && at >= this.span[0] && at < this.span[1] && !this.failed;
    if (!inside) {
      const start = Math.floor(at / this.longest) * this.longest;
      this.#load(start, Math.min(start + this.longest, this.seconds), false);
    }
    this.audio.currentTime = at - this.span[0];
    this.#start();
  }

  // Exactly a span; at most as long as one WAV is.
  playSpan(start, end) {
    this.#load(start, Math.min(end, start + this.longest, this.seconds), true);
    this.#start();
  }

  pause() {
    this.audio.pause();
  }

  #load(start, end, exact) {
    this.span = [start, end];
    this.exact = exact;
    this.audio.src = `api/recordings/${this.id}/audio.wav?start=${start.toFixed(6)}&end=${end.toFixed(6)}`;
  }

  #start() {
    this.audio.play().catch(() => this.changed()); // interrupted by the next one, or no sound
  }

  #ended() {
    if (!this.exact && this.span[1] < this.seconds) this.play(this.span[1]);
    else this.changed();
  }
}
