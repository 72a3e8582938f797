// What a person says of the segments of the recording that is shown; the server keeps it.

export const VERDICTS = ["yes", "no", "unsure"]; // the words of the table
const SAME = 1e-5; // seconds between times of one segment

export class Verdicts {
  constructor(ask, changed, complain) {
    Object.assign(this, { ask, changed, complain });
    this.sending = Promise.resolve(); // one after the other, so that the last one given is the last
    this.pending = new Map(); // recording and segment → {verdict} that is on its way
    this.reset(null);
    addEventListener("beforeunload", (event) => { if (this.pending.size) event.preventDefault(); });
  }

  reset(id) {
    this.id = id; // of the recording
    this.revision = -1; // none from this server yet
    this.count = 0; // of all recordings
    this.here = []; // [start, end, class, verdict]
  }

  take({ revision, count, here }) {
    if (revision >= this.revision) Object.assign(this, { revision, count, here }); // answers and events cross
  }

  kept(segment) {
    return this.here.find((each) => isOf(each, segment))?.[3] ?? "";
  }

  // The last one given, which may be on its way.
  last(segment) {
    return this.pending.get(this.#key(segment))?.verdict ?? this.kept(segment);
  }

  give(segment, verdict) {
    if (verdict === this.last(segment)) return;
    const { id, pending } = this, key = this.#key(segment), given = { verdict };
    pending.set(key, given);
    const query = new URLSearchParams({ class: segment.name, start: segment.start.toFixed(6), end: segment.end.toFixed(6), verdict });
    this.sending = this.sending.then(async () => {
      try {
        const kept = await (await this.ask(`api/recordings/${id}/verdict?${query}`, { method: "POST" })).json();
        if (id === this.id) this.take(kept);
      } catch (error) {
        this.complain(`The verdict was not kept: ${error.message}`);
      }
      if (pending.get(key) === given) pending.delete(key);
      this.changed();
    });
    this.changed();
  }

  #key(segment) {
    return `${this.id} ${segment.number} ${segment.start} ${segment.end}`;
  }

  // Where the verdicts are, for the person.
  words(segments, folder) {
    if (!this.count) return "";
    const judged = this.here.filter((each) => each[3]);
    const listed = judged.filter((each) => segments.some((segment) => isOf(each, segment))).length;
    const others = judged.length - listed;
    return `${judged.length} ${judged.length === 1 ? "verdict" : "verdicts"} on this recording`
      + (others ? `, ${others} of them on segments of another threshold` : "")
      + (folder ? `; all are kept in ${folder}.` : "; all are kept until the server ends: download them before.");
  }
}

function isOf([start, end, name], segment) {
  return name === segment.name && Math.abs(start - segment.start) < SAME && Math.abs(end - segment.end) < SAME;
}
