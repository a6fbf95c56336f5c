// Synchronizes the player and the transcript. Without this file the page still shows both.

const players = [];

class Player {
  constructor(root) {
    this.audio = root.querySelector("audio");
    this.failed = root.querySelector(".failed-recording");
    if (this.audio && this.failed) this.audio.addEventListener("error", () => this.explain());
    this.list = root.querySelector(".lines");
    if (!this.audio || !this.list) return;
    this.lines = [...this.list.querySelectorAll("li")];
    this.begins = this.lines.map((line) => Number(line.dataset.from));
    this.follow = root.querySelector(".follow");
    this.lanes = root.querySelector(".lanes");
    this.list.classList.add("seeks");
    for (const line of this.lines) line.querySelector(".text").classList.add("seeks");
    for (const hint of root.querySelectorAll(".scripted")) hint.hidden = false;
    this.list.addEventListener("click", (event) => this.clicked(event));
    this.list.addEventListener("keydown", (event) => this.pressed(event));
    if (this.lanes) {
      this.lanes.classList.add("seeks");
      this.lanes.addEventListener("click", (event) => {
        const box = this.lanes.getBoundingClientRect();
        this.seek((event.clientX - box.left) / box.width * Number(this.lanes.dataset.length), false);
      });
    }
    for (const name of ["timeupdate", "seeked", "loadedmetadata"]) {
      this.audio.addEventListener(name, () => this.show());
    }
    // Four timeupdates a second are too few for words.
    this.audio.addEventListener("play", () => {
      const step = () => {
        this.show();
        if (!this.audio.paused) requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    });
    players.push(this);
  }

  // Asks the server why a recording cannot be played: the player only reports that it failed.
  async explain() {
    const answer = await fetch(this.audio.src, {headers: {Range: "bytes=0-0", Accept: "text/html"}});
    const page = new DOMParser().parseFromString(answer.ok ? "" : await answer.text(), "text/html");
    this.failed.textContent = page.querySelector("main .card p")?.textContent.trim()
      || "This browser cannot play it.";
    this.failed.hidden = false;
  }

  seek(seconds, play = true) {
    this.audio.currentTime = Math.max(0, seconds + 0.001);
    if (play) this.audio.play().catch(() => {});
    this.show();
  }

  clicked(event) {
    const word = event.target.closest(".text [data-from]");
    const line = event.target.closest("li");
    if (!line || getSelection().toString()) return;
    event.preventDefault();
    this.seek(Number((word || line).dataset.from));
  }

  pressed(event) {
    const at = Math.max(0, this.line ? this.lines.indexOf(this.line) : -1);
    if (event.key === " " && event.target === this.list) {
      if (this.audio.paused) this.audio.play().catch(() => {});
      else this.audio.pause();
    } else if (event.key === "ArrowDown" && at + 1 < this.lines.length) {
      this.seek(this.begins[this.line ? at + 1 : 0], !this.audio.paused);
    } else if (event.key === "ArrowUp" && at > 0) {
      this.seek(this.begins[at - 1], !this.audio.paused);
    } else if (event.key === "Enter" && event.target === this.list) {
      this.seek(this.begins[at]);
    } else {
      return;
    }
    event.preventDefault();
  }

  // The last line or word that has begun, and has ended at most a short time ago.
  static current(entries, begins, now) {
    let low = 0, high = entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (begins[middle] <= now) low = middle + 1;
      else high = middle;
    }
    const found = entries[low - 1];
    return found && now < Number(found.dataset.to) + 0.35 ? found : null;
  }

  show() {
    const now = this.audio.currentTime;
    if (this.lanes) {
      const x = 1000 * now / Number(this.lanes.dataset.length);
      this.lanes.querySelector(".head").setAttribute("transform", `translate(${Math.min(x, 999)} 0)`);
    }
    const line = Player.current(this.lines, this.begins, now);
    if (line !== this.line) {
      this.line?.classList.remove("now");
      this.line?.removeAttribute("aria-current");
      line?.classList.add("now");
      line?.setAttribute("aria-current", "true");
      this.line = line;
      this.words = line ? [...line.querySelectorAll(".text [data-from]")] : [];
      this.wordBegins = this.words.map((word) => Number(word.dataset.from));
      if (line && this.follow?.checked && !this.audio.paused) this.list.scrollTop = line.offsetTop - this.list.clientHeight / 3;
    }
    const word = line ? Player.current(this.words, this.wordBegins, now) : null;
    if (word !== this.word) {
      this.word?.classList.remove("now");
      word?.classList.add("now");
      this.word = word;
    }
  }
}

function begin() {
  players.length = 0;
  for (const root of document.querySelectorAll("[data-player]")) new Player(root);
}

// Loads a new version of the document at once, unless a recording plays or a part is unfolded.
async function take() {
  const answer = await fetch(location.href, {credentials: "same-origin"});
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("vcon");
  if (!fresh) return;
  document.getElementById("vcon").replaceWith(document.adoptNode(fresh));
  document.getElementById("newer").hidden = true;
  document.dispatchEvent(new Event("conserver:times"));
  begin();
}

function compare() {
  const shown = document.getElementById("vcon"), state = document.getElementById("state");
  if (!shown || !state || shown.dataset.version === state.dataset.version) return;
  const busy = players.some((one) => !one.audio.paused || one.audio.currentTime > 0)
    || shown.querySelector("details[open]");
  if (busy) document.getElementById("newer").hidden = false;
  else take();
}

document.getElementById("take")?.addEventListener("click", take);
document.addEventListener("htmx:sse:after:message", compare);
begin();
