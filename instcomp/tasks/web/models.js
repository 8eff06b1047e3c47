// What a page evaluates: nets of plain layers tile by tile, local pictures (codec, field), global ones (IPC, fits).
'use strict';

// ---- reading a value of the picture's samples at any place, at any size of a cell
const CUBIC = `
float cubic(float x) { const float a = -.75; x = abs(x);
  return x < 1. ? ((a + 2.)*x - (a + 3.))*x*x + 1. : x < 2. ? ((a*x - 5.*a)*x + 8.*a)*x - 4.*a : 0.; }
vec4 taps(float t) { const float a = -.75; vec2 n = vec2(t, 1. - t), f = n + 1.;   // near ones and far ones
  vec2 p = ((a + 2.)*n - (a + 3.))*n*n + 1., q = ((a*f - 5.*a)*f + 8.*a)*f - 4.*a; return vec4(q.x, p.x, p.y, q.y); }
uniform sampler2D base; uniform ivec2 cell, size; uniform vec2 start; uniform float c;
vec4 sample_at(ivec2 i) { return texelFetch(base, clamp(i, ivec2(0), size - 1), 0); }`;
const ENLARGED = `${CUBIC}
vec4 sampled(vec2 pixel) {                       // bicubic, as torch has it
  vec2 u = start + (pixel + .5)*c - .5, i = floor(u), t = u - i; ivec2 at = cell + ivec2(i);
  ivec4 x = clamp(at.x + ivec4(-1, 0, 1, 2), 0, size.x - 1), y = clamp(at.y + ivec4(-1, 0, 1, 2), 0, size.y - 1);
  vec4 a = taps(t.x), b = taps(t.y);
  return ${range(4).map(r => `b[${r}]*(${range(4).map(q => `a[${q}]*texelFetch(base, ivec2(x[${q}], y[${r}]), 0)`).join(' + ')})`).join(' + ')}; }`;
const REDUCED = `${CUBIC}
const int MOST = 48; float wx[MOST];
float weight(float away, int n) { float sum = 0.;
  for (int j = 0; j < n; j++) sum += cubic(away + c*((float(j) + .5)/float(n) - .5));
  return sum/float(n); }
vec4 sampled(vec2 pixel) {                       // the mean over ceil(c)^2 points of the cell, bicubic each
  int n = int(ceil(c)); vec2 u = start + (pixel + .5)*c - .5, i = floor(u - .5*c) - 1., last = floor(u + .5*c) + 2.;
  int wide = min(MOST, int(last.x - i.x) + 1), high = min(MOST, int(last.y - i.y) + 1); vec4 sum = vec4(0);
  for (int k = 0; k < wide; k++) wx[k] = weight(u.x - i.x - float(k), n);
  for (int l = 0; l < high; l++) { vec4 row = vec4(0);
    for (int k = 0; k < wide; k++) row += wx[k]*sample_at(cell + ivec2(i) + ivec2(k, l));
    sum += weight(u.y - i.y - float(l), n)*row; }
  return sum; }`;
const RESAMPLE = `out vec4 o; uniform ivec2 corner;`;
const BASE_UP = `${RESAMPLE}${ENLARGED} void main() { o = vec4(sampled(vec2(ivec2(gl_FragCoord.xy) - corner)).rgb, 1); }`;
const BASE_DOWN = `${RESAMPLE}${REDUCED} void main() { o = vec4(sampled(vec2(ivec2(gl_FragCoord.xy) - corner)).rgb, 1); }`;
const MOST_REDUCED = 40;                         // samples a pixel: MOST taps are enough for it

// Where pixel (x, y) of a view lies: whole samples, and the rest of them, so that no zoom runs out of digits.
function start(view, x, y) {
  const u = [view.x + x*view.c, view.y + y*view.c], cell = u.map(Math.floor);
  return {cell, start: u.map((v, k) => v - cell[k])};
}
// A view: the samples' coordinates of its upper left corner (x, y), samples a pixel (c), pixels (w, h).
function* resample(engine, texture, view, target, inset = [0, 0, view.w, view.h]) {
  const c = Math.min(view.c, MOST_REDUCED), taps = view.c <= 1.001 ? 16 : (Math.ceil(c) + 4)**2 + 2*(c + 4)*c;
  const [x, y, w, h] = inset, at = start(view, x, y);
  yield* slices(y, h, w*taps*8, (first, n) => engine.draw(view.c <= 1.001 ? BASE_UP : BASE_DOWN, target, [x, first, w, n],
    {base: texture, cell: Int32Array.from(at.cell), size: Int32Array.of(texture.w, texture.h), start: at.start, c,
      corner: Int32Array.of(x, y)}));
}

// ---- a net of plain layers on a grid, tile by tile: the same values as in one piece
class Net {
  constructor(engine, layers) {
    this.engine = engine;
    this.layers = layers.map(layer => ({...layer, weights: engine.weights(layer)}));
    this.reach = [];                             // how far the layers after this one look
    let reach = 0;
    for (const {shape} of [...layers].reverse()) { this.reach.unshift(reach); reach += Math.max(shape[2], shape[3]) >> 1; }
    this.margin = reach;
    this.inputs = layers[0].shape[1];
    this.idle = [];                              // stacks that nothing is kept in
  }
  take(C, w, h) {
    const k = this.idle.findIndex(s => s.C === C && s.w === w && s.h === h);
    return k < 0 ? this.engine.stack(w, h, C) : this.idle.splice(k, 1)[0];
  }
  // The registers in the places of `area` [x, y, w, h] of a grid of W x H. `fill(stack, x, y)` makes the input;
  // of the names in `keep` the values go to those stacks, whose first place is that of the area.
  *run([x, y, w, h], W, H, most, fill, keep = {}) {
    const m = this.margin, flat = H === 1, left = 4*Math.ceil((m + 1)/4), up = flat ? 0 : m + 1;
    const ox = x - left, oy = y - up, room = 4*Math.ceil((most + left + m + 1)/4), high = flat ? 1 : most + 2*(m + 1);
    const registers = {x: this.take(this.inputs, room, high)}, image = [-ox, -oy, W - ox, H - oy];
    let out = null;
    try {
      yield* fill(registers.x, ox, oy, w + left + m + 1, flat ? 1 : h + 2*up);
      for (const [k, {to, of, act, add, pad, weights}] of this.layers.entries()) {
        const r = this.reach[k], kept = keep[to];
        const first = [Math.max(left - r, image[0]), Math.max(up - r, image[1])];
        const last = [Math.min(left + w + r, image[2]), Math.min(up + h + r, image[3])];
        const inset = kept ? [0, 0, w, h] : [...first, last[0] - first[0], last[1] - first[1]];
        const shift = kept ? [left/4, up] : [0, 0], box = pad === 'edge' ? undefined : image;
        out = kept || this.take(weights.out, room, high);
        yield* this.engine.layer(weights, registers[of], out, {act, add: add && registers[add], box, inset, shift});
        if (registers[to]) this.idle.push(registers[to]);
        registers[to] = out;
        out = null;
      }
    } finally {                                  // also where nobody asks for the rest
      if (out && !Object.values(keep).includes(out)) this.idle.push(out);
      for (const [name, stack] of Object.entries(registers)) if (!keep[name]) this.idle.push(stack);
    }
    return {registers, left, up};
  }
  drop() { for (const stack of this.idle.splice(0)) this.engine.free(stack); }
}

const PICK = `uniform sampler2D base; uniform ivec2 origin, size; ${range(P).map(p => `layout(location = ${p}) out vec4 o${p};`).join('')}
vec4 pick(int p) { ivec2 i = ivec2(${P}*int(gl_FragCoord.x) + p, int(gl_FragCoord.y)) + origin;
  return vec4(2.*texelFetch(base, clamp(i, ivec2(0), size - 1), 0).rgb - 1., 0); }
void main() { ${range(P).map(p => `o${p} = pick(${p});`).join('')} }`;

const UNPATCH = `out vec4 o; uniform sampler2DArray src; uniform ivec2 corner, from; uniform int p; uniform float mean;
float value(ivec2 at, int k) { vec4 v = texelFetch(src, ivec3(at.x >> 2, at.y, (k & ~3) + (at.x & 3)), 0); k &= 3;
  return k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w; }
void main() { ivec2 g = ivec2(gl_FragCoord.xy), at = g/p - corner + from, in_ = g % p; int k = in_.y*p + in_.x, n = p*p;
  o = vec4(value(at, k), value(at, n + k), value(at, 2*n + k), 1) + vec4(vec3(mean), 0); }`;

// Put the numbers (C, H, W) of a code into a stack whose first place is (x, y) of the grid.
function* upload(engine, z, [C, H, W], stack, x, y, w, h) {
  const gl = engine.gl, wide = stack.wide, part = new Float32Array(wide*h*4);
  gl.bindTexture(gl.TEXTURE_2D_ARRAY, stack.texture);
  for (const layer of range(stack.layers)) {
    part.fill(0);
    for (let j = 0; j < h; j++) for (let i = 0; i < wide; i++) {
      const X = x + P*i + layer % P, Y = y + j, c = (layer/P | 0)*4;
      if (X < 0 || Y < 0 || X >= W || Y >= H) continue;
      for (let k = 0; k < 4 && c + k < C; k++) part[(j*wide + i)*4 + k] = z[((c + k)*H + Y)*W + X];
    }
    gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, layer, wide, h, 1, gl.RGBA, gl.FLOAT, part);
    yield wide*h*8;
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, stack.texture);
  }
}

// ---- the field: t + phi(f) + s psi(f) of the first layer, between the samples
function placeSource(O, K) {
  const n = 2*K + 1, outs = range(O*P), F = k => range(O).map(o => `vec4 q${o} = texelFetch(wt, ivec2(at.x + ${o}, ${k}), 0), r${o} = texelFetch(wt, ivec2(at.x + at.y + ${o}, ${k}), 0);`).join('');
  const times = f => range(O).map(o => range(P).map(p => `a${o*P + p} += ${f(p)}*q${o}; b${o*P + p} += ${f(p)}*r${o};`).join('')).join('');
  return `uniform sampler2DArray shift, scale; uniform sampler2D wt; uniform ivec2 at, cell; uniform ivec4 bounds;
uniform vec2 start; uniform float c; ${outs.map(k => `layout(location = ${k}) out vec4 o${k};`).join('')}
${ACTS.gelu}
vec4 look(sampler2DArray s, ivec2 i, int l) { return texelFetch(s, ivec3(i.x >> 2, i.y, l + (i.x & 3)), 0); }
vec4 between(sampler2DArray s, ivec4 i, vec2 t, int l) {
  return mix(mix(look(s, i.xy, l), look(s, i.zy, l), t.x), mix(look(s, i.xw, l), look(s, i.zw, l), t.x), t.y); }
void waves(float u, out float w[${n}]) { float a = 6.28318530718*fract(u), x = cos(a), y = sin(a); w[0] = 1.; w[1] = x; w[${K + 1}] = y;
  for (int k = 2; k <= ${K}; k++) { w[k] = w[k - 1]*x - w[k + ${K - 1}]*y; w[k + ${K}] = w[k + ${K - 1}]*x + w[k - 1]*y; } }
void main() {
  ivec2 g = ivec2(gl_FragCoord.xy); float v = start.y + (float(g.y) + .5)*c, row[${n}]; waves(v, row);
  ${range(P).map(p => `float u${p} = start.x + (float(${P}*g.x + ${p}) + .5)*c, col${p}[${n}]; waves(u${p}, col${p});`).join('')}
  ${outs.map(k => `vec4 a${k}, b${k} = vec4(0);`).join('')}
  { ${F(`${n*n + 2}`)} ${range(O).map(o => range(P).map(p => `a${o*P + p} = q${o};`).join('')).join('')} }
  { ${F(`${n*n}`)} ${times(() => 'c')} } { ${F(`${n*n + 1}`)} ${times(() => 'c*c')} }
  ${range(n*n).map(k => `{ ${F(k)} ${times(p => `(row[${k/n | 0}]*col${p}[${k % n}])`)} }`).join('')}
  ivec4 i; vec2 t, w; int l = ${P}*at.x;
  ${range(P).map(p => `w = vec2(u${p}, v) - .5; t = fract(w); i.xy = cell + ivec2(floor(w)); i.zw = i.xy + 1;
    i = ivec4(clamp(i.xy, bounds.xy, bounds.zw), clamp(i.zw, bounds.xy, bounds.zw));
    ${range(O).map(o => `o${o*P + p} = act(between(shift, i, t, l + ${P*o}) + a${o*P + p} + between(scale, i, t, l + ${P*o})*b${o*P + p});`).join('')}`).join('')}
}`;
}
const FINISH = `${RESAMPLE}${ENLARGED} uniform sampler2DArray src;
void main() { ivec2 g = ivec2(gl_FragCoord.xy) - corner;
  vec3 y = texelFetch(src, ivec3(g.x >> 2, g.y, g.x & 3), 0).rgb; o = vec4(sampled(vec2(g)).rgb + (1. - c)*y, 1); }`;
const BLOCK = [256, 128];                        // pixels whose values between the samples are made together

// The rectangles of a view, no larger than BLOCK, the middle first.
function blocks(inset, most = BLOCK) {
  const [x, y, w, h] = inset, out = [];
  for (let j = 0; j < h; j += most[1]) for (let i = 0; i < w; i += most[0])
    out.push([x + i, y + j, Math.min(most[0], w - i), Math.min(most[1], h - j)]);
  const far = ([a, b, p, q]) => Math.hypot(a + p/2 - x - w/2, b + q/2 - y - h/2);
  return out.sort((a, b) => far(a) - far(b));
}
const meet = ([x, y, w, h], [X, Y, W, H]) => {
  const l = Math.max(x, X), t = Math.max(y, Y), r = Math.min(x + w, X + W), b = Math.min(y + h, Y + H);
  return r > l && b > t ? [l, t, r - l, b - t] : null;
};
// The pixels of a view whose centres lie in an area [x, y, w, h] of the samples.
function pixels(view, [x, y, w, h]) {
  const l = Math.ceil((x - view.x)/view.c - .5), t = Math.ceil((y - view.y)/view.c - .5);
  const r = Math.ceil((x + w - view.x)/view.c - .5), b = Math.ceil((y + h - view.y)/view.c - .5);
  return meet([0, 0, view.w, view.h], [l, t, r - l, b - t]);
}
const mixed = (codes, a) => codes.length < 2 || a === 0 ? codes[0].z : codes[0].z.map((v, k) => v + a*(codes[1].z[k] - v));

class LocalPicture {
  constructor(engine, about) {
    Object.assign(this, {engine, about, codes: about.codes});
    [this.h, this.w] = about.size;
    this.base = engine.texture(this.w, this.h, this.w*this.h > 2**22 ? engine.gl.RGBA16F : engine.float);
    if (about.codec) this.codec = new Net(engine, about.codec.layers);
    if (about.field) this.field = this.network(about.field);
    this.ready = false;                          // is `base` that of the code?
    this.tiles = new Map();
    this.budget = (navigator.maxTouchPoints && Math.min(screen.width, screen.height) < 700 ? 96 : 256)*2**20;
  }
  network({layers, place, points}) {
    const {engine} = this, {shape: [hidden, n], K} = place, O = Math.ceil(hidden/4), data = new Float32Array((n + 1)*2*O*4);
    for (let o = 0; o < hidden; o++) {
      for (let k = 0; k < n; k++) { data[k*8*O + o] = place.phi[o*n + k]; data[k*8*O + 4*O + o] = place.psi[o*n + k]; }
      data[n*8*O + o] = place.b[o];
    }
    const [bw, bh] = BLOCK, side = Math.max(this.w, this.h) <= 192 ? 192 : 128;
    return {net: new Net(engine, layers), table: engine.table(2*O, n + 1, data), O, K, n, side,
      points: points.map(layer => engine.weights(layer)),
      hidden: range(2).map(() => engine.stack(bw, bh, hidden)), value: engine.stack(bw, bh, 4)};
  }
  // From now on the code is `a` of the way to the second one; `prepare` makes its samples.
  begin(a) {
    this.ready = false;
    this.mix = a;
    this.forget();
  }
  *prepare() {
    const {engine, w, h} = this, z = mixed(this.codes, this.mix), gl = engine.gl;
    if (!this.codec) {
      const part = new Float32Array(w*h*4);
      for (let k = 0; k < w*h; k++) for (let c = 0; c < 3; c++) part[4*k + c] = z[c*w*h + k];
      gl.bindTexture(gl.TEXTURE_2D, this.base.texture);
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, w, h, gl.RGBA, gl.FLOAT, part);
      yield w*h*4;
    } else {
      const shape = this.codes[0].shape, [, H, W] = shape, p = this.about.codec.cell, most = 128;
      for (const area of blocks([0, 0, W, H], [most, most])) {
        const {registers, left, up} = yield* this.codec.run(area, W, H, Math.min(most, Math.max(W, H)),
          (stack, x, y, ww, hh) => upload(engine, z, shape, stack, x, y, ww, Math.min(hh, stack.h)));
        const rect = meet([p*area[0], p*area[1], p*area[2], p*area[3]], [0, 0, w, h]);
        yield* slices(rect[1], rect[3], rect[2]*30, (first, n) => engine.draw(UNPATCH, engine.target(this.base), [rect[0], first, rect[2], n],
          {src: registers.u, corner: Int32Array.of(area[0], area[1]), from: Int32Array.of(left, up), p: Int32Array.of(p), mean: this.about.codec.mean}));
      }
      this.codec.drop();
    }
    this.ready = true;
  }
  forget() {
    for (const tile of this.tiles.values()) for (const stack of tile.kept) this.engine.free(stack);
    this.tiles.clear();
    this.stop();
  }
  stop() { if (this.making) this.making.job.return(); this.making = null; }
  // Features of the places of one tile, and one place around it.
  *features(key, i, j) {
    const {engine, w, h, field} = this, n = field.side, gl = engine.gl;
    const own = meet([i*n, j*n, n, n], [0, 0, w, h]), area = meet([own[0] - 1, own[1] - 1, own[2] + 2, own[3] + 2], [0, 0, w, h]);
    const kept = range(2).map(() => engine.stack(area[2], area[3], field.O*4, gl.RGBA16F)), bytes = 2*kept[0].bytes;
    for (const [old, tile] of this.tiles) {      // the ones that nobody looked at for the longest go
      if ([...this.tiles.values()].reduce((sum, t) => sum + t.bytes, bytes) <= this.budget) break;
      for (const stack of tile.kept) engine.free(stack);
      this.tiles.delete(old);
    }
    const fill = function* (stack, x, y, ww, hh) {
      const wide = Math.ceil(ww/P);
      yield* slices(0, Math.min(hh, stack.h), wide*P*8, (first, rows) => engine.draw(PICK, engine.layers(stack, 0, 1), [0, first, wide, rows],
        {base: this.base, origin: Int32Array.of(x, y), size: Int32Array.of(w, h)}, [0, 0, stack.wide, stack.h]));
    }.bind(this);
    let done = false;
    try { yield* field.net.run(area, w, h, Math.min(n + 2, Math.max(w, h)), fill, {shift: kept[0], scale: kept[1]}); done = true; }
    finally { if (done) this.tiles.set(key, {own, area, kept, bytes}); else for (const stack of kept) engine.free(stack); }
  }
  *between(view, tile, rect, target) {           // values between the samples, in a rectangle of pixels
    const {engine, field} = this, [x, y, w, h] = rect, at = start(view, x, y), [ax, ay, aw, ah] = tile.area, wide = Math.ceil(w/P);
    for (let o = 0; o < field.O; o += engine.outs) {
      const n = Math.min(engine.outs, field.O - o);
      yield* slices(0, h, wide*P*n*(8*field.n + 64), (first, rows) => engine.draw(placeSource(n, field.K), engine.layers(field.hidden[0], o, n),
        [0, first, wide, rows], {shift: tile.kept[0], scale: tile.kept[1], wt: field.table, at: Int32Array.of(o, field.O),
          cell: Int32Array.of(at.cell[0] - ax, at.cell[1] - ay), bounds: Int32Array.of(0, 0, aw - 1, ah - 1), start: at.start, c: view.c},
        [0, 0, field.hidden[0].wide, field.hidden[0].h]));
    }
    const inset = [0, 0, w, h], [one, two] = field.points;
    yield* engine.layer(one, field.hidden[0], field.hidden[1], {act: 'gelu', inset});
    yield* engine.layer(two, field.hidden[1], field.value, {inset});
    yield* slices(y, h, w*160, (first, rows) => engine.draw(FINISH, target, [x, first, w, rows],
      {base: this.base, src: field.value, cell: Int32Array.from(at.cell), size: Int32Array.of(this.w, this.h), start: at.start,
        c: view.c, corner: Int32Array.of(x, y)}));
  }
  // The whole view, exactly, into a target. Tiles that are there first, then the others, the middle first.
  *draw(view, target) {
    const shown = pixels(view, [0, 0, this.w, this.h]);
    if (!shown) return;
    if (!this.field || view.c >= .999) { yield* resample(this.engine, this.base, view, target, shown); return; }
    const n = this.field.side, l = Math.max(0, view.x/n | 0), t = Math.max(0, view.y/n | 0), wanted = [];
    for (let j = t; j*n < Math.min(this.h, view.y + view.h*view.c); j++)
      for (let i = l; i*n < Math.min(this.w, view.x + view.w*view.c); i++) wanted.push([i, j]);
    const middle = [(view.x + view.w*view.c/2)/n - .5, (view.y + view.h*view.c/2)/n - .5];
    const far = ([i, j]) => Math.hypot(i - middle[0], j - middle[1]) - (this.tiles.has(`${i},${j}`) ? 1e6 : 0);
    wanted.sort((a, b) => far(a) - far(b));
    if (this.making && !wanted.some(([i, j]) => `${i},${j}` === this.making.key)) this.stop();
    if (this.making) wanted.sort((a, b) => (this.making.key === `${b[0]},${b[1]}`) - (this.making.key === `${a[0]},${a[1]}`));
    for (const [i, j] of wanted) {
      const key = `${i},${j}`;
      if (!this.tiles.has(key)) {                // a tile that was begun goes on where it was
        if (!this.making) this.making = {key, job: this.features(key, i, j)};
        const {job} = this.making;
        for (let step = job.next(); !step.done; step = job.next()) yield step.value;
        this.making = null;
      }
      const tile = this.tiles.get(key);
      this.tiles.delete(key);
      this.tiles.set(key, tile);
      const rect = pixels(view, tile.own);
      if (rect) for (const part of blocks(rect)) yield* this.between(view, tile, part, target);
    }
  }
}

// ---- one network for a whole tile of the picture: features of the coordinates, layers, one of them the instance's
const ENCODE = n => `uniform sampler2D wt; uniform int at, lines; ${range(n*P).map(k => `layout(location = ${k}) out vec4 o${k};`).join('')}
float wave(vec2 v, int k) { vec4 w = texelFetch(wt, ivec2(k, 0), 0); float p = dot(v, w.xy) + w.z;
  return k < lines ? p*w.w : w.w*cos(6.28318530718*(p - round(p))); }
vec4 four(int p, int l) { vec2 v = vec2(${P}*int(gl_FragCoord.x) + p, int(gl_FragCoord.y)) + .5;
  return vec4(wave(v, l), wave(v, l + 1), wave(v, l + 2), wave(v, l + 3)); }
void main() { ${range(n*P).map(k => `o${k} = four(${k % P}, 4*(at + ${k/P | 0}));`).join('')} }`;

// The network's values at a rectangle of places, up to w x h of them at once.
class Points {
  constructor(engine, {waves, layers, instance}, shared, [w, h]) {
    this.n = Math.ceil(waves.length/16);         // groups of four features
    const wide = Math.max(this.n*4, ...layers.map(layer => layer.shape[0]), instance == null ? 0 : layers[instance].rank);
    Object.assign(this, {engine, waves, layers, instance, shared, table: engine.table(this.n*4, 1, new Float32Array(this.n*16)),
      stacks: range(2).map(() => engine.stack(w, h, wide))});
  }
  static shared(engine, {layers, instance}) { return layers.map((layer, k) => k === instance ? null : engine.weights(layer)); }
  // Place (i, j) lies at begin + (i + .5, j + .5)*step: how many turns a wave has made at `begin` is found in double precision.
  begin(begin, step) {
    const {engine: {gl}, waves} = this, data = new Float32Array(this.n*16);
    this.lines = 0;                              // features that are coordinates, not waves
    for (let k = 0; k < waves.length; k += 4) {
      const line = waves[k + 2] < -1, turns = waves[k]*begin[0] + waves[k + 1]*begin[1] - (line ? 0 : waves[k + 2]);
      if (line) this.lines++;
      data.set([waves[k]*step[0], waves[k + 1]*step[1], line ? turns : turns - Math.round(turns), waves[k + 3]], k);
    }
    gl.bindTexture(gl.TEXTURE_2D, this.table.texture);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, this.n*4, 1, gl.RGBA, gl.FLOAT, data);
  }
  // A stack with the values of w x h places in its upper left corner; `own` are the instance's matrices.
  *run(begin, step, w, h, own) {
    const {engine, layers, instance, shared} = this, wide = Math.ceil(w/P), inset = [0, 0, w, h];
    let [from, to] = this.stacks;
    this.begin(begin, step);
    for (let o = 0; o < this.n; o += engine.outs) {
      const n = Math.min(engine.outs, this.n - o);
      yield* slices(0, h, wide*P*n*80, (row, rows) => engine.draw(ENCODE(n), engine.layers(from, o, n), [0, row, wide, rows],
        {wt: this.table, at: Int32Array.of(o), lines: Int32Array.of(this.lines)}, [0, 0, from.wide, from.h]));
    }
    for (const [l, {act}] of layers.entries()) {
      const steps = l === instance ? own : [shared[l]];
      for (const [s, weights] of steps.entries()) {
        yield* engine.layer(weights, from, to, {act: s === steps.length - 1 ? act : 'none', inset});
        [from, to] = [to, from];
      }
    }
    return from;
  }
}

const ADD = `uniform sampler2DArray src, old; uniform vec2 start; uniform vec2 c; uniform float first, least; ${range(P).map(p => `layout(location = ${p}) out vec4 o${p};`).join('')}
vec4 sum(int p) { ivec2 g = ivec2(gl_FragCoord.xy); vec2 v = start + (vec2(${P}*g.x + p, g.y) + .5)*c, w = max(vec2(least), 1. - abs(v));
  return (first > 0. ? vec4(0) : texelFetch(old, ivec3(g, p), 0)) + w.x*w.y*vec4(texelFetch(src, ivec3(g, p), 0).rgb, 1); }
void main() { ${range(P).map(p => `o${p} = sum(${p});`).join('')} }`;
const SHARE = `out vec4 o; uniform sampler2DArray src; uniform ivec2 corner; void main() { ivec2 g = ivec2(gl_FragCoord.xy) - corner;
  vec4 v = texelFetch(src, ivec3(g.x >> 2, g.y, g.x & 3), 0); o = vec4(v.rgb/max(v.a, 1e-20), 1); }`;

const SMALL = [128, 64];
class GlobalPicture {
  constructor(engine, about) {
    Object.assign(this, {engine, about, codes: about.codes});
    [this.h, this.w] = about.size;
    this.base = engine.texture(this.w, this.h, this.w*this.h > 2**22 ? engine.gl.RGBA16F : engine.float);
    const shared = Points.shared(engine, about.net);
    const [scratch, own] = range(2).map(() => ({points: new Points(engine, about.net, shared, SMALL), sums: range(2).map(() => engine.stack(...SMALL, 4))}));
    Object.assign(this, {scratch, ownScratch: own});   // of a view, and of the picture at its own size, which may wait for it
    this.ready = false;
    this.own = new Map();
  }
  // The instance's layer of a tile: V, then U with columns such that those of V U have length 1.
  weights(tile) {
    if (this.own.has(tile)) return this.own.get(tile);
    const {U, b, rank, shape: [out, inp], unit} = this.about.net.layers[this.about.net.instance], n = inp*rank;
    const V = mixed(this.codes.map(code => ({z: code.z.subarray(tile*n, (tile + 1)*n)})), this.mix);
    const G = new Float64Array(rank*rank), scaled = Float32Array.from(U);
    for (let r = 0; r < rank; r++) for (let q = 0; q <= r; q++) {
      let sum = 0;
      for (let i = 0; i < inp; i++) sum += V[i*rank + r]*V[i*rank + q];
      G[r*rank + q] = G[q*rank + r] = sum;
    }
    if (unit) for (let o = 0; o < out; o++) {
      let square = 0;
      for (let r = 0; r < rank; r++) for (let q = 0; q < rank; q++) square += U[o*rank + r]*U[o*rank + q]*G[r*rank + q];
      for (let r = 0; r < rank; r++) scaled[o*rank + r] /= Math.max(Math.sqrt(Math.max(square, 0)), 1e-12);
    }
    const turned = new Float32Array(n);
    for (let i = 0; i < inp; i++) for (let r = 0; r < rank; r++) turned[r*inp + i] = V[i*rank + r];
    const made = [this.engine.weights({W: turned, shape: [rank, inp, 1, 1]}), this.engine.weights({W: scaled, shape: [out, rank, 1, 1], b})];
    if (this.own.size > 256) this.forget();
    this.own.set(tile, made);
    return made;
  }
  forget() {
    for (const pair of this.own.values()) pair.forEach(table => this.engine.free(table));
    this.own.clear();
  }
  *tile(k, view, [x, y, w, h], first, scratch) {          // one tile's values in a rectangle, added to the sums
    const {engine, about: {net: {instance}, tile: [high, wide], corners}} = this, all = [wide, high];
    const c = all.map(n => 2*view.c/n), begin = [view.x + x*view.c - corners[k][1], view.y + y*view.c - corners[k][0]].map((v, k) => 2*v/all[k] - 1);
    const src = yield* scratch.points.run(begin, c, w, h, instance == null ? null : this.weights(k)), [sum, old] = scratch.sums, row = Math.ceil(w/P);
    yield* slices(0, h, row*P*12, (y, rows) => engine.draw(ADD, engine.layers(sum, 0, 1), [0, y, row, rows],
      {src, old, start: begin, c, first: first ? 1 : 0, least: corners.length > 1 ? 0 : 1e-6}, [0, 0, sum.wide, sum.h]));
    scratch.sums.reverse();
  }
  *values(view, target, shown, scratch) {
    const {engine, about: {tile: [high, wide], corners}} = this;
    for (const rect of blocks(shown, SMALL)) {
      const [x, y, w, h] = rect, area = [view.x + x*view.c, view.y + y*view.c, w*view.c, h*view.c];
      let first = true;
      for (const [k, [i, j]] of corners.entries()) if (meet(area, [j, i, wide, high])) {
        yield* this.tile(k, view, rect, first, scratch);
        first = false;
      }
      yield* slices(y, h, w*12, (row, n) => engine.draw(SHARE, target, [x, row, w, n], {src: scratch.sums[1], corner: Int32Array.of(x, y)}));
    }
  }
  begin(a) {
    this.ready = false;
    this.mix = a;
    this.forget();
  }
  *prepare() {                                   // the picture at its own size
    const view = {x: 0, y: 0, c: 1, w: this.w, h: this.h};
    yield* this.values(view, this.engine.target(this.base), [0, 0, this.w, this.h], this.ownScratch);
    this.ready = true;
  }
  *draw(view, target) {
    const shown = pixels(view, [0, 0, this.w, this.h]);
    if (!shown) return;
    if (view.c > .999) yield* resample(this.engine, this.base, view, target, shown);
    else yield* this.values(view, target, shown, this.scratch);
  }
}
