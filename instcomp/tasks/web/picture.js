// A picture to move through: view, input, what is drawn at once and what follows.
'use strict';

const PRESENT = `out vec4 o; uniform sampler2D exact, ruler, rough, base; uniform ivec2 cell, size, all, still; uniform vec2 start;
uniform float c, split, mode; uniform vec3 empty, line;
vec4 over(vec4 a, vec4 b) { return a.a > .5 ? a : b; }
void main() {
  ivec2 g = ivec2(gl_FragCoord.x, all.y - 1 - int(gl_FragCoord.y)); vec2 u = start + (vec2(g) + .5)*c; ivec2 i = cell + ivec2(floor(u));
  vec4 quick = texture(rough, (vec2(g) + .5)/vec2(all)); bool inside = i.x >= 0 && i.y >= 0 && i.x < size.x && i.y < size.y;
  bool right = mode > .5 && float(g.x) + .5 > split;
  o = !inside ? vec4(empty, 1) : right ? (mode < 1.5 ? (still.x > 0 ? texelFetch(base, i, 0) : quick) : over(texelFetch(ruler, g, 0), quick)) : over(texelFetch(exact, g, 0), quick);
  if (mode > .5 && abs(float(g.x) + .5 - split) < 1.) o = vec4(line, 1);
  o.a = 1.; }`;
const DEEPEST = 2e6;                             // pixels a sample

class Picture {
  constructor(canvas, about, preview, changed) {
    Object.assign(this, {canvas, about, preview, changed});
    this.compare = 0; this.split = .5; this.mix = 0; this.touched = false;
    this.answers = []; this.events = [];
    this.view = {x: about.size[1]/2, y: about.size[0]/2, s: 1};        // middle, pixels a sample
    this.build();
    canvas.addEventListener('webglcontextlost', event => { event.preventDefault(); this.lost = true; this.changed(); });
    canvas.addEventListener('webglcontextrestored', () => { this.lost = false; this.build(); this.resize(); });
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
  }
  build() {
    const {canvas, about} = this, engine = this.engine = new Engine(canvas), gl = engine.gl, image = this.preview;
    this.model = about.kind === 'local' ? new LocalPicture(engine, about) : new GlobalPicture(engine, about);
    this.small = image.map(img => {
      const made = engine.texture(img.naturalWidth, img.naturalHeight, gl.RGBA8);
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, gl.RGBA, gl.UNSIGNED_BYTE, img);
      return made;
    });
    this.worker = new Worker(engine, done => this.shown(done));
    this.frames = null;
    this.preparing = null;
    this.setMix(this.mix);
  }
  setMix(a) {
    this.mix = a;
    if (this.preparing) this.preparing.return();
    this.model.begin(a);
    this.preparing = this.model.prepare();
    this.refresh();
  }
  resize() {
    const {canvas} = this, ratio = Math.min(2, window.devicePixelRatio || 1);
    const w = Math.max(1, Math.round(canvas.clientWidth*ratio)), h = Math.max(1, Math.round(canvas.clientHeight*ratio));
    if (this.lost || this.frames && canvas.width === w && canvas.height === h) return;
    canvas.width = w; canvas.height = h;
    const {engine} = this, gl = engine.gl;
    if (this.frames) Object.values(this.frames).forEach(frame => engine.free(frame));
    this.frames = {exact: engine.texture(w, h, gl.RGBA8), ruler: engine.texture(w, h, gl.RGBA8), rough: engine.texture(w, h, gl.RGBA8, true)};
    if (!this.touched) this.fit();
    this.refresh();
  }
  get least() { return Math.min(this.canvas.width/this.model.w, this.canvas.height/this.model.h); }
  fit() { Object.assign(this.view, {x: this.model.w/2, y: this.model.h/2, s: this.least}); this.refresh(); }
  // Zoom by a factor about a pixel of the canvas, then move by pixels.
  zoom(factor, px = this.canvas.width/2, py = this.canvas.height/2) {
    const {view, canvas} = this, s = Math.min(DEEPEST, Math.max(.5*Math.min(1, this.least), view.s*factor));
    view.x += (px - canvas.width/2)*(1/view.s - 1/s); view.y += (py - canvas.height/2)*(1/view.s - 1/s);
    view.s = s;
    this.move(0, 0);
  }
  move(dx, dy) {
    const {view, model} = this;
    view.x = Math.min(model.w, Math.max(0, view.x - dx/view.s)); view.y = Math.min(model.h, Math.max(0, view.y - dy/view.s));
    this.touched = true;
    this.refresh();
  }
  get window() {
    const {view, canvas: {width: w, height: h}} = this, c = 1/view.s;
    return {x: view.x - w/2*c, y: view.y - h/2*c, c, w, h};
  }
  refresh(event) {
    if (event) { this.events.push(event.timeStamp); speed.touched = performance.now(); }
    this.settled = false;
    if (this.asked) return;
    this.asked = true;
    this.worker.stop();                          // another view is wanted: what would have to wait is not drawn
    requestAnimationFrame(() => { this.asked = false; if (!this.lost && this.frames) this.answer(); });
  }
  // At once: a few samples of what is known. Then, in the background, everything.
  answer() {
    const {engine, frames, model, worker} = this, gl = engine.gl, view = this.window, began = performance.now();
    for (const frame of [frames.exact, frames.ruler]) {
      gl.bindFramebuffer(gl.FRAMEBUFFER, engine.target(frame));
      gl.disable(gl.SCISSOR_TEST);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
    }
    this.coarse(view);
    this.present();
    const events = this.events.splice(0);
    if (events.length) this.time(Math.min(...events), began);
    worker.start(this.work(view));
    this.changed();
  }
  coarse(view) {                                 // as many pixels as the answers before had time for
    const {engine, frames, model, small} = this, {w, h} = view;
    let q = 1;
    while (q < 8 && w*h*130/q**2 > speed.room) q++;
    const known = model.ready ? [model.base] : small.slice(0, this.mix > 0 ? 2 : 1), k = !model.ready && this.mix > .5 ? known.length - 1 : 0;
    const source = known[k], f = source.w/model.w, g = source.h/model.h, size = [Math.ceil(w/q), Math.ceil(h/q)];
    if (this.q !== size.join()) { engine.free(frames.rough); frames.rough = engine.texture(...size, engine.gl.RGBA8, true); this.q = size.join(); }
    const part = {x: view.x*f, y: view.y*g, c: view.c*w/size[0]*f, w: size[0], h: size[1]}, at = start(part, 0, 0);
    engine.draw(BASE_UP, engine.target(frames.rough), [0, 0, ...size], {base: source, cell: Int32Array.from(at.cell),
      size: Int32Array.of(source.w, source.h), start: at.start, c: part.c, corner: Int32Array.of(0, 0)});
    this.rough = known[k] === model.base;
  }
  *work(view) {
    const {engine, frames, model} = this, wait = model instanceof GlobalPicture && view.c <= .999;
    if (!wait) yield* this.finish(view);
    yield* model.draw(view, engine.target(frames.exact));
    if (!this.compare) return;
    yield* this.finish(view);
    if (this.compare === 2) yield* resample(engine, model.base, view, engine.target(frames.ruler));
  }
  *finish(view) {                                // the picture's own samples, begun before or now
    if (!this.preparing) return;
    for (let step = this.preparing.next(); !step.done; step = this.preparing.next()) yield step.value;
    this.preparing = null;
    this.coarse(view);
  }
  present() {
    const {engine, frames, model, canvas: {width: w, height: h}, compare} = this, view = this.window, at = start(view, 0, 0);
    engine.draw(PRESENT, null, [0, 0, w, h], {...frames, base: model.base, cell: Int32Array.from(at.cell), size: Int32Array.of(model.w, model.h),
      all: Int32Array.of(w, h), still: Int32Array.of(model.ready ? 1 : 0, 0), start: at.start, c: view.c, split: this.split*w, mode: compare,
      empty: this.empty, line: this.line});
    this.last = performance.now();
  }
  shown(done) {
    if (this.lost) return;
    const due = done || performance.now() - this.last > 250;
    if (due) this.present();
    if (done && !this.asked) { this.settled = performance.now(); this.changed(); }       // no other view was asked for
    return due;
  }
  time(event, began) {                           // from an event to the picture that answers it, in milliseconds
    this.engine.finish();
    const now = performance.now();
    speed.room = Math.max(5e5, Math.min(1e10, speed.room*Math.max(.5, Math.min(1.3, speed.answer/(now - began)))));
    this.answers.push(now - event);
    if (this.answers.length > 1000) this.answers.shift();
  }
  pixels() {                                     // (h, w, 4) bytes, the upper row first
    const {canvas: {width: w, height: h}} = this, out = new Uint8Array(w*h*4);
    this.present();
    const read = this.engine.read(null, 0, 0, w, h);
    for (let y = 0; y < h; y++) out.set(read.subarray((h - 1 - y)*w*4, (h - y)*w*4), y*w*4);
    return out;
  }
  set(view) { Object.assign(this.view, view); this.touched = true; this.refresh(); }
  get zoomed() { return this.view.s; }

  listen() {
    const {canvas} = this, fingers = new Map(), ratio = () => canvas.width/canvas.clientWidth;
    const at = event => { const box = canvas.getBoundingClientRect(); return [(event.clientX - box.left)*ratio(), (event.clientY - box.top)*ratio()]; };
    let dragging = null;
    canvas.addEventListener('wheel', event => {
      event.preventDefault();
      const step = event.deltaY*(event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1)*(event.ctrlKey ? .01 : .0015);
      this.zoom(Math.exp(-Math.max(-1, Math.min(1, step))), ...at(event));
      this.refresh(event);
    }, {passive: false});
    canvas.addEventListener('pointerdown', event => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, at(event));
      const near = 14*ratio()*(event.pointerType === 'touch' ? 2 : 1);
      dragging = fingers.size === 1 && this.compare && Math.abs(at(event)[0] - this.split*canvas.width) < near ? 'split' : 'move';
    });
    canvas.addEventListener('pointermove', event => {
      const now = at(event);
      if (!fingers.has(event.pointerId)) {
        canvas.style.cursor = this.compare && Math.abs(now[0] - this.split*canvas.width) < 14*ratio() ? 'ew-resize' : '';
        return;
      }
      const before = fingers.get(event.pointerId), other = [...fingers].find(([id]) => id !== event.pointerId);
      if (dragging === 'split') this.divide(now[0]/canvas.width);
      else if (!other) this.move(now[0] - before[0], now[1] - before[1]);
      else {                                     // two fingers: what is under each stays there
        const [x, y] = other[1], far = p => Math.max(8, Math.hypot(p[0] - x, p[1] - y));
        this.move((now[0] - before[0])/2, (now[1] - before[1])/2);
        this.zoom(far(now)/far(before), (now[0] + x)/2, (now[1] + y)/2);
      }
      fingers.set(event.pointerId, now);
      this.refresh(event);
    });
    const up = event => { fingers.delete(event.pointerId); };
    canvas.addEventListener('pointerup', up);
    canvas.addEventListener('pointercancel', up);
    canvas.addEventListener('dblclick', event => { this.zoom(event.shiftKey ? .5 : 2, ...at(event)); this.refresh(event); });
  }
  divide(x) { this.split = Math.min(.98, Math.max(.02, x)); this.present(); this.changed(); }
  setCompare(n) { this.compare = n; this.refresh(); this.changed(); }
  key(event) {
    const step = 80*(window.devicePixelRatio || 1)*(event.shiftKey ? 4 : 1), keys = {
      ArrowLeft: () => this.move(step, 0), ArrowRight: () => this.move(-step, 0), ArrowUp: () => this.move(0, step), ArrowDown: () => this.move(0, -step),
      '+': () => this.zoom(1.5), '=': () => this.zoom(1.5), '-': () => this.zoom(1/1.5), 0: () => this.fit(), 1: () => this.zoom(1/this.view.s),
      c: () => this.setCompare((this.compare + 1) % 3), '[': () => this.divide(this.split - .05), ']': () => this.divide(this.split + .05)};
    const act = keys[event.key];
    if (act) { act(); this.refresh(event); }
    return !!act;
  }
}
