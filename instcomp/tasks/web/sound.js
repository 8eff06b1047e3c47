// A sound to move through and to hear: its samples are made on the GPU; what lies between them is cubic, or a fit's own.
'use strict';

class SoundModel {
  constructor(engine, about) {
    Object.assign(this, {engine, about, codes: about.codes, n: about.size[0]});
    this.net = new Net(engine, about.codec.layers);
    this.wave = new Float32Array(this.n);
    this.made = 0;                               // samples that are there
  }
  *prepare(a) {
    const {engine, net, about, n} = this, z = mixed(this.codes, a), [C, W] = this.codes[0].shape, p = about.codec.cell, most = 512;
    const gain = about.peak.reduce((sum, v, k) => sum + v*(k ? a : 1 - a), 0)/.7, mean = about.level.reduce((sum, v, k) => sum + v*(k ? a : 1 - a), 0);
    this.made = 0;
    for (let first = 0; first < W; first += most) {
      const count = Math.min(most, W - first);
      const {registers: {u}, left} = yield* net.run([first, 0, count, 1], W, 1, Math.min(most, W),
        (stack, x, y, ww) => upload(engine, z, [C, 1, W], stack, x, 0, ww, 1));
      for (let group = 0; group < Math.ceil(p/4); group++) {
        const values = engine.row(u, group, left, count);
        for (let i = 0; i < count; i++) for (let k = 0; k < 4; k++) {
          const at = (first + i)*p + 4*group + k;
          if (at < n && 4*group + k < p) this.wave[at] = (values[4*i + k] + about.codec.mean)*gain + mean;
        }
        yield count*8;
      }
      this.made = Math.min(n, (first + count)*p);
    }
  }
}

// A fit of a sound has values at any time, two units a second.
class FittedSound {
  constructor(engine, about) {
    Object.assign(this, {engine, about, n: about.size[0]});
    this.points = new Points(engine, about.net, Points.shared(engine, about.net), [1024, 1]);
    this.wave = new Float32Array(this.n);
    this.seen = {key: null};                     // the values of one view
  }
  *values(first, step, out) {                    // out[k] is the value at sample first + (k + .5)*step, samples' middles at .5
    const {engine, points, n, about: {rate, peak: [peak], level: [level]}} = this, most = points.stacks[0].w;
    const gain = peak > 1e-30 ? peak/.7 : 1;
    for (let k = 0; k < out.length; k += most) {
      const count = Math.min(most, out.length - k);
      const stack = yield* points.run([2*(first + k*step - n/2)/rate, 0], [2*step/rate, 0], count, 1), values = engine.row(stack, 0, 0, count);
      for (let i = 0; i < count; i++) out[k + i] = values[4*i]*gain + level;
      yield count*8;
    }
  }
  *prepare() { yield* this.values(0, 1, this.wave); }
  *look(key, first, step, n) {                   // a view's columns of pixels
    const values = new Float32Array(n);
    yield* this.values(first, step, values);
    this.seen = {key, values};
  }
}

class Sound {
  constructor(canvas, about, changed) {
    Object.assign(this, {canvas, about, changed, mix: 0, compare: 0, answers: [], playing: null});
    this.hidden = document.createElement('canvas');
    this.n = about.size[0];
    this.view = {x: this.n/2, s: 1};             // sample in the middle, pixels a sample
    this.build();
    this.hidden.addEventListener('webglcontextlost', event => event.preventDefault());
    this.hidden.addEventListener('webglcontextrestored', () => this.build());
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
  }
  build() {
    this.engine = new Engine(this.hidden);
    this.model = this.about.net ? new FittedSound(this.engine, this.about) : new SoundModel(this.engine, this.about);
    this.sought = this.preparing = null;
    this.worker = new Worker(this.engine, done => this.shown(done));
    this.setMix(this.mix);
  }
  setMix(a) {
    this.mix = a;
    if (this.preparing) this.preparing.return();
    this.preparing = this.model.prepare(a);
    this.start();
  }
  start() { this.settled = false; this.begun = this.sought; this.worker.start(this.work()); }
  *work() {                                      // all samples, then what lies between those in sight
    if (this.preparing) for (let step = this.preparing.next(); !step.done; step = this.preparing.next()) yield step.value;
    this.preparing = null;
    const {view: {x, s}, canvas: {width: w}, sought} = this;
    if (sought) yield* this.model.look(sought, x - w/2/s, 1/s, w);
  }
  seek() {                                       // does this view want values of its own?
    const {view: {x, s}, canvas: {width: w}, model} = this;
    this.sought = model.look && !this.compare && s > 1.5 ? [x, s, w].join() : null;
    if (this.sought && this.sought !== this.begun && this.sought !== model.seen.key) this.start();
  }
  shown(done) { this.levels = null; this.refresh(); if (done) { this.settled = performance.now(); this.changed(); } return false; }
  resize() {
    const {canvas} = this, ratio = window.devicePixelRatio || 1, first = !this.sized;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth*ratio)); canvas.height = Math.max(1, Math.round(canvas.clientHeight*ratio));
    this.sized = true;
    if (first || !this.touched) this.fit();
    this.refresh();
  }
  fit() { this.view = {x: this.n/2, s: this.canvas.width/this.n}; this.refresh(); }
  zoom(factor, px = this.canvas.width/2) {
    const {view, canvas} = this, s = Math.min(1e4, Math.max(.5*canvas.width/this.n, view.s*factor));
    view.x += (px - canvas.width/2)*(1/view.s - 1/s);
    view.s = s;
    this.move(0);
  }
  move(dx) { this.view.x = Math.min(this.n, Math.max(0, this.view.x - dx/this.view.s)); this.touched = true; this.refresh(); }
  refresh(event) {
    if (event) this.began = Math.min(this.began || Infinity, event.timeStamp);
    this.seek();
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; this.draw(); if (this.began) this.answers.push(performance.now() - this.began); this.began = 0; });
  }
  at(i) { return this.model.wave[Math.min(this.n - 1, Math.max(0, i))]; }
  value(u) {                                     // cubic, as torch has it; u counts samples, their middles at .5
    const i = Math.floor(u - .5), t = u - .5 - i, a = -.75, f = x => { x = Math.abs(x); return x < 1 ? ((a + 2)*x - (a + 3))*x*x + 1 : ((a*x - 5*a)*x + 8*a)*x - 4*a; };
    return this.at(i - 1)*f(t + 1) + this.at(i)*f(t) + this.at(i + 1)*f(1 - t) + this.at(i + 2)*f(2 - t);
  }
  ends(first, last) {                            // least and most of samples, by blocks of 64
    const {wave} = this.model;
    if (!this.levels) {
      const m = Math.ceil(this.n/64);
      this.levels = {low: new Float32Array(m).fill(Infinity), high: new Float32Array(m).fill(-Infinity)};
      for (let i = 0; i < this.n; i++) { const k = i >> 6, v = wave[i]; if (v < this.levels.low[k]) this.levels.low[k] = v; if (v > this.levels.high[k]) this.levels.high[k] = v; }
    }
    let low = Infinity, high = -Infinity;
    for (let i = first; i < last;) {
      const whole = !(i & 63) && i + 64 <= last, l = whole ? this.levels.low[i >> 6] : wave[i], h = whole ? this.levels.high[i >> 6] : wave[i];
      low = Math.min(low, l); high = Math.max(high, h);
      i += whole ? 64 : 1;
    }
    return [low, high];
  }
  draw() {
    const {canvas, view, n} = this, {width: w, height: h} = canvas, pen = canvas.getContext('2d'), css = getComputedStyle(canvas), ratio = w/canvas.clientWidth;
    const colour = name => css.getPropertyValue(name).trim(), left = view.x - w/2/view.s, top = Math.max(...this.about.peak)*1.15 + 1e-6;
    const X = u => (u - left)*view.s, Y = v => h/2 - v/top*h*.42;
    pen.fillStyle = colour('--empty'); pen.fillRect(0, 0, w, h);
    pen.fillStyle = colour('--stage'); pen.fillRect(X(0), 0, n*view.s, h);
    pen.strokeStyle = colour('--faint'); pen.lineWidth = ratio;
    pen.beginPath(); pen.moveTo(0, h/2); pen.lineTo(w, h/2); pen.stroke();
    pen.strokeStyle = pen.fillStyle = colour('--accent'); pen.lineWidth = 1.5*ratio;
    pen.beginPath();
    if (view.s < .5) for (let x = 0; x < w; x++) {
      const [low, high] = this.ends(Math.max(0, Math.floor(left + x/view.s) - 1), Math.min(n, Math.ceil(left + (x + 1)/view.s)));
      if (low <= high) { pen.moveTo(x + .5, Y(high) - .5); pen.lineTo(x + .5, Y(low) + .5); }
    } else if (this.sought && this.sought === this.model.seen.key) {
      for (let x = Math.max(0, Math.ceil(X(0) - .5)); x + .5 <= Math.min(w, X(n)); x++) pen.lineTo(x + .5, Y(this.model.seen.values[x]));
    } else for (let x = Math.max(0, X(0)); x <= Math.min(w, X(n)); x += .5) pen.lineTo(x, Y(this.compare === 1 ? this.at(Math.floor(left + x/view.s)) : this.value(left + x/view.s)));
    pen.stroke();
    if (view.s > 7*ratio) for (let i = Math.max(0, Math.floor(left)); i < Math.min(n, left + w/view.s); i++) {
      pen.beginPath(); pen.arc(X(i + .5), Y(this.at(i)), 3*ratio, 0, 7); pen.fill();
    }
    if (this.playing) {
      const u = this.playing.from + (this.playing.audio.currentTime - this.playing.began)*this.about.rate;
      pen.strokeStyle = colour('--text'); pen.beginPath(); pen.moveTo(X(u), 0); pen.lineTo(X(u), h); pen.stroke();
      this.refresh();
    }
    this.changed();
  }
  play() {                                       // what is in sight, or stop
    if (this.playing) { this.playing.node.stop(); return; }
    const audio = this.audio = this.audio || new AudioContext(), left = this.view.x - this.canvas.width/2/this.view.s;
    const first = Math.max(0, Math.floor(left)), last = Math.min(this.n, Math.ceil(left + this.canvas.width/this.view.s));
    if (last <= first) return;
    const buffer = audio.createBuffer(1, last - first, this.about.rate), node = audio.createBufferSource();
    buffer.copyToChannel(this.model.wave.subarray(first, last), 0);
    node.buffer = buffer;
    node.connect(audio.destination);
    node.onended = () => { this.playing = null; this.refresh(); };
    audio.resume();
    node.start();
    this.playing = {node, audio, from: first, began: audio.currentTime};
    this.refresh();
  }
  get zoomed() { return this.view.s; }
  set(view) { Object.assign(this.view, view); this.touched = true; this.refresh(); }
  setCompare(n) { this.compare = n; this.refresh(); }
  listen() {
    const {canvas} = this, fingers = new Map(), at = event => (event.clientX - canvas.getBoundingClientRect().left)*canvas.width/canvas.clientWidth;
    canvas.addEventListener('wheel', event => {
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.move(-event.deltaX*2);
      else this.zoom(Math.exp(-Math.max(-1, Math.min(1, event.deltaY*(event.ctrlKey ? .01 : .0015)))), at(event));
      this.refresh(event);
    }, {passive: false});
    canvas.addEventListener('pointerdown', event => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, at(event)); });
    canvas.addEventListener('pointermove', event => {
      if (!fingers.has(event.pointerId)) return;
      const now = at(event), before = fingers.get(event.pointerId), other = [...fingers].find(([id]) => id !== event.pointerId);
      if (!other) this.move(now - before);
      else { this.move((now - before)/2); this.zoom(Math.max(8, Math.abs(now - other[1]))/Math.max(8, Math.abs(before - other[1])), (now + other[1])/2); }
      fingers.set(event.pointerId, now);
      this.refresh(event);
    });
    for (const name of ['pointerup', 'pointercancel']) canvas.addEventListener(name, event => fingers.delete(event.pointerId));
    canvas.addEventListener('dblclick', event => this.zoom(event.shiftKey ? .5 : 2, at(event)));
  }
  key(event) {
    const step = 80*(event.shiftKey ? 4 : 1), keys = {ArrowLeft: () => this.move(step), ArrowRight: () => this.move(-step),
      '+': () => this.zoom(1.5), '=': () => this.zoom(1.5), '-': () => this.zoom(1/1.5), 0: () => this.fit(), ' ': () => this.play(), c: () => this.setCompare(1 - this.compare)};
    const act = keys[event.key];
    if (act) { act(); this.refresh(event); }
    return !!act;
  }
}
