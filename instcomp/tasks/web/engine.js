// Networks on the GPU: stacks of channels, plain layers, work in slices that never hold the page up.
'use strict';

const RECT = `#version 300 es
void main() { gl_Position = vec4(4.*float(gl_VertexID & 1) - 1., 2.*float(gl_VertexID & 2) - 1., 0, 1); }`;
const HEAD = `#version 300 es
precision highp float; precision highp int; precision highp sampler2D; precision highp sampler2DArray;
`;
const ACTS = {                                   // exact GELU by Abramowitz and Stegun 7.1.26, error 1.5e-7
  gelu: `vec4 act(vec4 x) { vec4 z = abs(x)*.70710678, t = 1./(1. + .3275911*z);
    vec4 e = 1. - t*(.254829592 + t*(-.284496736 + t*(1.421413741 + t*(-1.453152027 + t*1.061405429))))*exp(-z*z);
    return .5*x*(1. + sign(x)*e); }`,
  relu: 'vec4 act(vec4 x) { return max(x, 0.); }',
  sin: 'vec4 act(vec4 x) { return sin(6.28318530718*(x - round(x))); }',         // of turns
  none: 'vec4 act(vec4 x) { return x; }',
};
const P = 4;                                     // pixels of a row that one fragment computes
const range = n => [...Array(n).keys()];

class Engine {
  constructor(canvas) {
    const gl = canvas.getContext('webgl2', {alpha: false, antialias: false, depth: false, powerPreference: 'high-performance'});
    if (!gl) throw Error('This page needs WebGL 2.');
    this.gl = gl;
    const full = gl.getExtension('EXT_color_buffer_float'), half = gl.getExtension('EXT_color_buffer_half_float');
    if (!full && !half) throw Error('This page needs textures of floating-point numbers to draw to.');
    this.float = full ? gl.RGBA32F : gl.RGBA16F;
    this.outs = Math.max(1, Math.min(2, gl.getParameter(gl.MAX_DRAW_BUFFERS)/P | 0));
    this.programs = new Map();
    gl.bindVertexArray(gl.createVertexArray());
    gl.disable(gl.BLEND);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  }
  program(source) {
    const gl = this.gl;
    if (this.programs.has(source)) return this.programs.get(source);
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, RECT], [gl.FRAGMENT_SHADER, HEAD + source]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost())
        throw Error(gl.getShaderInfoLog(shader) + text);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw Error(gl.getProgramInfoLog(program));
    const made = {program, at: new Map()};
    this.programs.set(source, made);
    speed.fresh = true;
    return made;
  }
  // One rectangle [x, y, w, h] of a target (null: the canvas) by a program. Values: numbers, arrays, textures.
  draw(source, target, rect, values, view = rect) {
    const gl = this.gl, {program, at} = this.program(source);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.useProgram(program);
    gl.viewport(...view);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(...rect);
    let unit = 0;
    for (const [name, value] of Object.entries(values)) {
      if (!at.has(name)) at.set(name, gl.getUniformLocation(program, name));
      const place = at.get(name);
      if (value instanceof Int32Array) gl[`uniform${value.length}iv`](place, value);
      else if (Array.isArray(value)) gl[`uniform${value.length}fv`](place, value);
      else if (typeof value === 'number') gl.uniform1f(place, value);
      else {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(value.layers ? gl.TEXTURE_2D_ARRAY : gl.TEXTURE_2D, value.texture);
        gl.uniform1i(place, unit++);
      }
    }
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
  // A plain texture of w x h, of four channels; `linear` where it is enlarged as it is.
  texture(w, h, format = this.float, linear = false) {
    const gl = this.gl, texture = gl.createTexture(), filter = linear ? gl.LINEAR : gl.NEAREST;
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, format, w, h);
    for (const [key, value] of [[gl.TEXTURE_MIN_FILTER, filter], [gl.TEXTURE_MAG_FILTER, filter],
      [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE]]) gl.texParameteri(gl.TEXTURE_2D, key, value);
    return {texture, w, h, format};
  }
  // Floats (h, w, 4) as a texture to look numbers up in.
  table(w, h, data) {
    const gl = this.gl, made = this.texture(w, h, gl.RGBA32F);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, w, h, gl.RGBA, gl.FLOAT, data);
    return made;
  }
  target(texture) {
    const gl = this.gl;
    if (texture.frame) return texture.frame;
    texture.frame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, texture.frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture.texture, 0);
    return texture.frame;
  }
  // C channels at w x h places: layer 4i + p holds channels 4i ... 4i + 3 of the places 4x + p of each row.
  stack(w, h, C, format = this.float) {
    const gl = this.gl, texture = gl.createTexture(), layers = Math.ceil(C/4)*P, wide = Math.ceil(w/P);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, format, wide, h, layers);
    for (const key of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D_ARRAY, key, gl.NEAREST);
    return {texture, w, h, C, wide, layers, format, frames: new Map(), bytes: wide*h*layers*(format === gl.RGBA32F ? 16 : 8)};
  }
  layers(stack, first, n) {                      // a target of n groups of four channels, from group `first` on
    const gl = this.gl, key = `${first},${n}`;
    if (stack.frames.has(key)) return stack.frames.get(key);
    const frame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    for (const k of range(n*P)) gl.framebufferTextureLayer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + k, stack.texture, 0, first*P + k);
    gl.drawBuffers(range(n*P).map(k => gl.COLOR_ATTACHMENT0 + k));
    stack.frames.set(key, frame);
    return frame;
  }
  free(thing) {
    if (!thing) return;
    for (const frame of [thing.frame, ...(thing.frames || new Map()).values()]) if (frame) this.gl.deleteFramebuffer(frame);
    this.gl.deleteTexture(thing.texture);
  }
  // Wait until all that was asked for is drawn. Of the ways to do so only reading a pixel is prompt everywhere.
  finish() { this.tick = this.tick || this.texture(1, 1, this.gl.RGBA8); this.read(this.target(this.tick), 0, 0, 1, 1); }
  read(target, x, y, w, h, floats = false) {
    const gl = this.gl, out = floats ? new Float32Array(w*h*4) : new Uint8Array(w*h*4);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.readPixels(x, y, w, h, gl.RGBA, floats ? gl.FLOAT : gl.UNSIGNED_BYTE, out);
    return out;
  }
  // Four channels of `count` places of a stack's first row, from place `left` on, a multiple of P.
  row(stack, group, left, count) {
    const {gl} = this, frame = this.layers(stack, group, 1), out = new Float32Array(count*4);
    for (let phase = 0; phase < P; phase++) {
      gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
      gl.readBuffer(gl.COLOR_ATTACHMENT0 + phase);
      const values = this.read(frame, left/P, 0, Math.ceil(count/P), 1, true);
      for (let i = phase; i < count; i += P) out.set(values.subarray((i >> 2)*4, (i >> 2)*4 + 4), i*4);
    }
    return out;
  }
  // Weights (out, in, ky, kx) and bias (out) as a table: row k = ((dy·groups + i)·kx + dx), columns 4o ... 4o + 3.
  weights({W, shape: [out, inp, ky, kx], b}) {
    const O = Math.ceil(out/4), I = Math.ceil(inp/4), rows = ky*I*kx + 1, data = new Float32Array(rows*O*16);
    for (let o = 0; o < out; o++) {
      for (let i = 0; i < inp; i++) for (let dy = 0; dy < ky; dy++) for (let dx = 0; dx < kx; dx++) {
        const row = (dy*I + (i >> 2))*kx + dx, column = (o >> 2)*4 + (i & 3);
        data[(row*O*4 + column)*4 + (o & 3)] = W[((o*inp + i)*ky + dy)*kx + dx];
      }
      if (b) data[((rows - 1)*O*4 + (o >> 2)*4)*4 + (o & 3)] = b[o];
    }
    return {...this.table(O*4, rows, data), O, I, ky, kx, rows, out};
  }
  // One layer: to = act(W * from + b + add), in the places of `inset` [x, y, w, h]. Place (x, y) of `to` is place
  // (x + 4·shift[0], y + shift[1]) of `from`, which is taken for zero outside of `box` [left, top, right, bottom].
  *layer(weights, from, to, {act = 'none', add = null, box = [-1e6, -1e6, 1e6, 1e6], inset = [0, 0, to.w, to.h], shift = [0, 0]} = {}) {
    const {O, I, kx, ky, rows} = weights, [x, y, w, h] = inset, left = Math.floor(x/P), wide = Math.ceil((x + w)/P) - left;
    for (let o = 0; o < O; o += this.outs) {
      const n = Math.min(this.outs, O - o), source = layerSource(kx, ky, n, act, !!add), cost = wide*P*n*16*I*kx*ky;
      const values = {src: from, wt: weights, at: Int32Array.of(o, I, rows - 1), box: Int32Array.from(box), shift: Int32Array.from(shift)};
      if (add) values.old = add;
      yield* slices(y, h, cost, (first, count) => this.draw(source, this.layers(to, o, n),
        [left, first, wide, count], values, [0, 0, to.wide, to.h]));
    }
  }
}

const sources = new Map();
function layerSource(kx, ky, O, act, add) {
  const key = [kx, ky, O, act, add].join();
  if (sources.has(key)) return sources.get(key);
  const r = kx >> 1, taps = P + 2*r, cell = (t, l) => `ivec3(g.x + (${Math.floor((t - r)/P)}), y, ${l} + ${(t - r + P) % P})`;
  const column = (o, k) => range(4).map(c => `texelFetch(wt, ivec2(${4*o + c} + w, ${k}), 0)`).join();
  const masked = r ? t => `m${t}*texelFetch(src, ${cell(t, 'l')}, 0)` : t => `texelFetch(src, ${cell(t, 'l')}, 0)`;
  const text = `uniform sampler2DArray src${add ? ', old' : ''}; uniform sampler2D wt; uniform ivec3 at; uniform ivec4 box; uniform ivec2 shift;
${range(O*P).map(k => `layout(location = ${k}) out vec4 o${k};`).join('')}
${ACTS[act]}
void main() {
  ivec2 own = ivec2(gl_FragCoord.xy), g = own + shift; int y = g.y, k = 0, w = 4*at.x; mat4 m;
  ${range(O).map(o => `vec4 b${o} = texelFetch(wt, ivec2(${4*o} + w, at.z), 0);`).join('')}
  ${range(O*P).map(k => `vec4 a${k} = b${k/P | 0};`).join('')}
  for (int dy = 0; dy < ${ky}; dy++) {
    y = g.y + dy - ${ky >> 1};
    ${r ? `bool row = y >= box.y && y < box.w; int x = ${P}*g.x - ${r};
    ${range(taps).map(t => `float m${t} = row && x + ${t} >= box.x && x + ${t} < box.z ? 1. : 0.;`).join('')}` : ''}
    for (int i = 0; i < at.y; i++) {
      int l = ${P}*i;
      ${range(taps).map(t => `vec4 v${t} = ${masked(t)};`).join('')}
      ${range(O).map(o => range(kx).map(d => `m = mat4(${column(o, `k + ${d}`)});
        ${range(P).map(p => `a${o*P + p} += m*v${p + d};`).join('')}`).join('')).join('')}
      k += ${kx};
    }
  }
  ${range(O*P).map(k => `o${k} = act(a${k}${add ? ` + texelFetch(old, ivec3(own, at.x*${P} + ${k}), 0)` : ''});`).join('')}
}`;
  sources.set(key, text);
  return text;
}

// ---- work in slices: generators yield what they cost (multiplications, about) before the next piece
const speed = {
  rate: 1e6, room: 4e6, fresh: true,             // multiplications a millisecond; in a coarse picture
  answer: 16, touched: -1e9,                     // milliseconds that an answer should take; when the last event was
  get slice() { return performance.now() - this.touched < 500 ? 8 : 20; },     // a piece is short where events wait
  get piece() { return this.rate*this.slice; },
};
function* slices(first, count, each, f) {        // rows, as many at a time as fit in a piece
  while (count > 0) {
    const n = Math.max(1, Math.min(count, Math.floor(speed.piece/each)));
    f(first, n);
    first += n; count -= n;
    yield n*each;
  }
}

class Worker {                                   // runs one job at a time, piece by piece, and lets events in between
  constructor(engine, between) { Object.assign(this, {engine, between, job: null, busy: false}); }
  start(job) { this.stop(); this.job = job; this.stopped = false; if (!this.busy) this.step(); }
  stop() { if (this.job) this.job.return(); this.job = null; this.stopped = true; }    // what is drawn stays as it is
  step() {
    const began = performance.now(), {slice, piece} = speed;
    let cost = 0;
    while (this.job && cost < piece) {
      const {done, value} = this.job.next();
      if (done) this.job = null; else cost += value;
    }
    if (!cost) { this.busy = false; if (!this.stopped) this.between(true); return; }
    this.busy = true;
    this.engine.finish();
    const took = performance.now() - began, times = Math.max(.6, Math.min(2, slice/took));
    if (!speed.fresh && (times < 1 || cost > .7*piece)) speed.rate = Math.max(4e5, Math.min(1e10, speed.rate*times));
    speed.fresh = this.between(false);           // a piece that had to translate a program or to wait for a frame says nothing
    later(() => { if (!this.engine.gl.isContextLost()) this.step(); });
  }
}
const channel = new MessageChannel(), waiting = [];
channel.port1.onmessage = () => waiting.shift()();
function later(f) { waiting.push(f); channel.port2.postMessage(0); }   // after the events that wait
