// What is seen of a recording: spectrogram in tiles with its axes, and under it the classes over time.

const GUTTER = 52; // px, for the frequencies
const AXIS = 22; // px, for the times
const LANE = 32; // px a class
const LANES = 8;
const LOADS = 3; // tiles at a time: a browser has six connections to a server
const KEPT = 160; // tiles
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

export function clock(seconds, digits = 1) {
  const scaled = Math.round(seconds * 10 ** digits) / 10 ** digits;
  const hours = Math.floor(scaled / 3600), minutes = Math.floor(scaled / 60) % 60;
  const rest = (scaled % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export class View {
  constructor(about, spectrogram, timeline) {
    this.about = about;
    this.canvases = [spectrogram, timeline];
    this.tiles = new Map(); // key → {image, level, start, end, ready}
    this.loading = 0;
    this.scheduled = false;
    this.show(null);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    new ResizeObserver(() => this.#resized()).observe(spectrogram);
  }

  show(recording) {
    this.recording = recording;
    for (const tile of this.tiles.values()) tile.image.src = "";
    this.tiles.clear();
    this.loading = 0;
    this.start = 0;
    this.cursor = 0;
    this.attention = null;
    this.segments = [];
    this.lanes = [];
    if (recording) this.fit();
  }

  get width() {
    return Math.max(50, this.canvases[0].clientWidth - GUTTER);
  }

  get length() {
    return this.scale * this.width; // seconds that are seen
  }

  fit() {
    this.scale = this.recording.seconds / this.width; // seconds a pixel
    this.start = 0;
    this.fitted = true;
    this.redraw();
  }

  zoom(factor, around = this.cursor) {
    const { seconds } = this.recording;
    const inside = around >= this.start && around <= this.start + this.length;
    const fixed = inside ? around : this.start + this.length / 2;
    const share = (fixed - this.start) / this.length;
    const least = Math.min(this.about.step / 8, seconds / this.width);
    this.scale = Math.min(Math.max(this.scale * factor, least), seconds / this.width);
    this.fitted = this.scale >= seconds / this.width;
    this.scrollTo(fixed - share * this.length);
  }

  scrollTo(start) {
    this.start = Math.max(0, Math.min(start, this.recording.seconds - this.length));
    this.redraw();
  }

  reveal(time) {
    if (time < this.start || time > this.start + this.length) this.scrollTo(time - this.length * 0.1);
  }

  timeAt(x) {
    const time = this.start + (x - GUTTER) * this.scale;
    return Math.max(0, Math.min(time, this.recording.seconds));
  }

  segmentAt(x, y) {
    const name = this.lanes[Math.floor(y / LANE)]?.number, time = this.timeAt(x);
    return this.segments.find((each) => each.number === name && each.start <= time && time < each.end);
  }

  redraw() {
    if (this.scheduled || !this.recording) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      if (this.recording) this.#draw();
    });
  }

  #resized() {
    if (!this.recording) return;
    if (this.fitted) this.fit();
    else this.scrollTo(this.start);
  }

  #draw() {
    const style = getComputedStyle(document.documentElement);
    this.colours = Object.fromEntries(
      ["page", "text", "quiet", "line", "accent", "segment", "lane"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.#drawSpectrogram(this.#context(this.canvases[0]));
    this.canvases[1].style.height = `${Math.max(1, this.lanes.length) * LANE}px`;
    this.#drawTimeline(this.#context(this.canvases[1]));
  }

  #context(canvas) {
    const ratio = devicePixelRatio || 1;
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight].map((size) => Math.round(size * ratio));
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    context.font = "12px system-ui, sans-serif";
    return context;
  }

  #x(time) {
    return GUTTER + (time - this.start) / this.scale;
  }

  #drawSpectrogram(context) {
    const height = this.canvases[0].clientHeight - AXIS, { width, colours } = this;
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, width, height);
    context.clip();
    context.fillStyle = colours.lane;
    context.fillRect(GUTTER, 0, width, height);
    this.#loadTiles();
    const seen = [...this.tiles.values()].filter((t) => t.ready && t.end > this.start && t.start < this.start + this.length);
    for (const { image, start, end } of seen.sort((a, b) => b.level - a.level)) {
      context.drawImage(image, this.#x(start), 0, (end - start) / this.scale, height);
    }
    this.#drawAttention(context, height);
    this.#drawCursor(context, height);
    context.restore();
    this.#drawAxes(context, height);
  }

  #drawAttention(context, height) {
    if (!this.attention) return;
    const { start, end, values } = this.attention;
    const wide = (end - start) / values[0].length / this.scale, high = height / values.length;
    values.forEach((row, r) => row.forEach((value, c) => {
      if (value <= 1) return; // no more than all patches have on average
      context.fillStyle = `rgba(86, 220, 255, ${0.9 * (1 - 1 / value)})`;
      context.fillRect(this.#x(start) + c * wide, height - (r + 1) * high, wide + 0.5, high + 0.5);
    }));
    context.strokeStyle = "rgb(86, 220, 255)";
    context.strokeRect(this.#x(start), 0.5, (end - start) / this.scale, height - 1);
  }

  #drawCursor(context, height) {
    const x = Math.round(this.#x(this.cursor)) + 0.5;
    for (const [style, wide] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = style;
      context.lineWidth = wide;
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, height);
      context.stroke();
    }
    context.lineWidth = 1;
  }

  #drawAxes(context, height) {
    const { colours } = this;
    context.fillStyle = colours.quiet;
    context.strokeStyle = colours.line;
    context.textAlign = "right";
    context.textBaseline = "middle";
    let last = Infinity;
    for (const [hertz, share] of this.about.ticks) {
      const y = Math.min(Math.max(height * (1 - share), 7), height - 7);
      if (last - y < 15) continue;
      last = y;
      context.fillText(hertz < 1000 ? `${hertz} Hz` : `${hertz / 1000} kHz`, GUTTER - 6, y);
    }
    const step = STEPS.find((each) => each / this.scale > 75) ?? STEPS.at(-1);
    const digits = step >= 1 ? 0 : step >= 0.1 ? 1 : 2;
    context.textAlign = "center";
    for (let k = Math.ceil(this.start / step); k * step <= this.start + this.length; k++) {
      const x = this.#x(k * step);
      context.fillRect(x, height, 1, 4);
      const half = context.measureText(clock(k * step, digits)).width / 2;
      context.fillText(clock(k * step, digits), Math.min(Math.max(x, GUTTER + half), GUTTER + this.width - half - 2), height + 13);
    }
  }

  #drawTimeline(context) {
    const { colours, width } = this;
    context.textBaseline = "middle";
    context.textAlign = "left";
    if (!this.lanes.length) {
      context.fillStyle = colours.quiet;
      context.fillText("Classes appear here while the recording is analysed.", 8, LANE / 2);
      return;
    }
    this.lanes.forEach((lane, row) => {
      const top = row * LANE;
      context.fillStyle = colours.text;
      context.fillText(lane.name, GUTTER + 4, top + 9, width - 4);
      context.fillStyle = colours.lane;
      context.fillRect(GUTTER, top + 17, width, 13);
      context.fillStyle = colours.accent;
      this.#drawLane(context, lane, top + 17);
      context.globalAlpha = 1;
      context.strokeStyle = colours.segment;
      context.lineWidth = 2;
      for (const { number, start, end } of this.segments) {
        if (number !== lane.number || end < this.start || start > this.start + this.length) continue;
        const left = Math.max(this.#x(start), GUTTER) + 1, right = Math.min(this.#x(end), GUTTER + width) - 1;
        context.strokeRect(left, top + 17, Math.max(right - left, 1), 13);
      }
      context.lineWidth = 1;
    });
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, width, this.lanes.length * LANE);
    context.clip();
    context.fillStyle = colours.text;
    context.fillRect(Math.round(this.#x(this.cursor)), 0, 1, this.lanes.length * LANE);
    context.restore();
  }

  // One rectangle a window; where windows are narrower than a pixel, one a pixel: the highest.
  #drawLane(context, lane, top) {
    let held = null;
    const paint = () => {
      if (!held) return;
      context.globalAlpha = held.value;
      context.fillRect(held.left, top, held.right - held.left, 13);
    };
    for (let k = firstFrom(lane.ends, this.start); k < lane.starts.length && lane.starts[k] < this.start + this.length; k++) {
      const left = Math.max(this.#x(lane.starts[k]), GUTTER), right = Math.min(this.#x(lane.ends[k]), GUTTER + this.width);
      if (held && left - held.left < 1 && right - held.left < 2) {
        held.value = Math.max(held.value, lane.values[k]);
        held.right = Math.max(held.right, right, held.left + 1);
      } else {
        paint();
        held = { left, right: Math.max(right, left + 1), value: lane.values[k] };
      }
    }
    paint();
  }

  #loadTiles() {
    const { step, columns } = this.about, { recording } = this;
    const level = Math.max(0, Math.ceil(Math.log2((this.scale / step) / (devicePixelRatio > 1 ? 2 : 1))));
    const size = step * 2 ** level * columns;
    const first = Math.floor(this.start / size);
    const last = Math.min(Math.floor((this.start + this.length) / size), Math.ceil(recording.seconds / size) - 1);
    for (let number = first; number <= last; number++) {
      const key = `${level}/${number}`;
      const known = this.tiles.get(key);
      if (known) { // to the end of the order, in which the oldest are dropped
        this.tiles.delete(key);
        this.tiles.set(key, known);
      } else if (this.loading < LOADS) {
        this.#loadTile(key, level, number * size, step * 2 ** level);
      }
    }
    for (const [key, tile] of this.tiles) {
      if (this.tiles.size <= KEPT) break;
      if (tile.ready) this.tiles.delete(key);
    }
  }

  #loadTile(key, level, start, column) {
    const image = new Image(), { recording } = this;
    const tile = { image, level, start, end: start, ready: false };
    this.tiles.set(key, tile);
    this.loading++;
    const settle = (ready) => {
      if (this.recording !== recording || this.tiles.get(key) !== tile) return;
      this.loading--;
      tile.ready = ready;
      tile.end = start + image.naturalWidth * column;
      this.redraw();
    };
    image.onload = () => settle(true);
    image.onerror = () => settle(false);
    image.src = `api/recordings/${recording.id}/tiles/${key}.png`;
  }
}

// Lanes of the classes with the highest probability in any window.
export function lanesOf(windows, classes) {
  const best = new Map();
  for (const [, , scores] of windows) {
    for (const [number, value] of scores) if (value > (best.get(number) ?? 0)) best.set(number, value);
  }
  const numbers = [...best].sort((a, b) => b[1] - a[1]).slice(0, LANES).map(([number]) => number);
  const lanes = numbers.map((number) => ({ number, name: classes[number], starts: [], ends: [], values: [] }));
  const byNumber = new Map(lanes.map((lane) => [lane.number, lane]));
  windows.forEach(([start, end, scores], k) => { // where windows overlap: up to half way
    const before = windows[k - 1], after = windows[k + 1];
    const left = before ? (start + end + before[0] + before[1]) / 4 : start;
    const right = after ? (start + end + after[0] + after[1]) / 4 : end;
    for (const [number, value] of scores) {
      const lane = byNumber.get(number);
      if (!lane) continue;
      lane.starts.push(left);
      lane.ends.push(right);
      lane.values.push(value);
    }
  });
  return lanes;
}

// Windows of a class that reach the threshold, joined where they touch or overlap.
export function segmentsOf(windows, classes, threshold) {
  const segments = [], open = new Map();
  for (const [start, end, scores] of windows) {
    for (const [number, value] of scores) {
      if (value < threshold) continue;
      const last = open.get(number);
      if (last && start <= last.end) {
        last.end = Math.max(last.end, end);
        last.value = Math.max(last.value, value);
      } else {
        const segment = { start, end, number, name: classes[number], value };
        open.set(number, segment);
        segments.push(segment);
      }
    }
  }
  return segments.sort((a, b) => a.start - b.start || b.value - a.value);
}

function firstFrom(sorted, value) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
