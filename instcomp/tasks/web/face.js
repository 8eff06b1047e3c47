// The page: numbers out of its own text, buttons, keys, the code as a picture.
'use strict';

const $ = id => document.getElementById(id);
async function inflated(text) {
  const bytes = Uint8Array.from(atob(text.trim()), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'))).arrayBuffer();
}
function halves(bits) {                          // float16 to float32
  const out = new Float32Array(bits.length);
  for (let k = 0; k < bits.length; k++) {
    const h = bits[k], e = h >> 10 & 31, m = h & 1023;
    out[k] = (h & 32768 ? -1 : 1)*(e === 0 ? m*2**-24 : e === 31 ? (m ? NaN : Infinity) : (1 + m/1024)*2**(e - 15));
  }
  return out;
}
// Every {at, n, type, scale} of the description becomes its numbers.
function filled(value, data) {
  if (Array.isArray(value)) return value.map(v => filled(v, data));
  if (!value || typeof value !== 'object') return value;
  if ('at' in value && 'type' in value) {
    const kind = {f64: Float64Array, f32: Float32Array, f16: Uint16Array, u8: Uint8Array, i16: Int16Array}[value.type], raw = new kind(data, value.at, value.n);
    if (value.type === 'f64' || value.type === 'f32') return raw;
    return value.type === 'f16' ? halves(raw) : Float32Array.from(raw, v => v*value.scale);
  }
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, filled(v, data)]));
}

const colours = [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]];
function heat(v, out, k) {                       // from -1, blue, over white to 1, red
  const x = (Math.max(-1, Math.min(1, v)) + 1)*2, i = Math.min(3, x | 0), t = x - i;
  for (let c = 0; c < 3; c++) out[4*k + c] = colours[i][c] + t*(colours[i + 1][c] - colours[i][c]);
  out[4*k + 3] = 255;
}
// Maps (n, h, w) beside each other, each by its own largest values.
function paint(canvas, maps, n, h, w, columns) {
  const rows = Math.ceil(n/columns), pen = canvas.getContext('2d');
  canvas.width = columns*(w + 1) - 1; canvas.height = rows*(h + 1) - 1;
  const image = pen.createImageData(canvas.width, canvas.height);
  for (let m = 0; m < n; m++) {
    const map = maps.subarray(m*h*w, (m + 1)*h*w);
    let square = 0;
    for (const v of map) square += v*v;
    const unit = 2.5*Math.sqrt(square/map.length) || 1, x = (m % columns)*(w + 1), y = (m/columns | 0)*(h + 1);
    for (let k = 0; k < h*w; k++) heat(map[k]/unit, image.data, (y + (k/w | 0))*canvas.width + x + k % w);
  }
  pen.putImageData(image, 0, 0);
}
function paintCode(show) {
  const {about} = show, code = {z: mixed(about.codes, show.mix)}, canvas = $('heat');
  if (about.kind === 'global') {
    const {view, model: {about: {tile: [high, wide], corners, net: {layers, instance}}}} = show, {rank, shape: [, inp]} = layers[instance], n = inp*rank;
    const far = ([i, j]) => Math.hypot(view.y - i - high/2, view.x - j - wide/2), k = corners.reduce((best, corner, k) => far(corner) < far(corners[best]) ? k : best, 0);
    const V = code.z.subarray(k*n, (k + 1)*n), turned = Float32Array.from({length: n}, (_, i) => V[(i % inp)*rank + (i/inp | 0)]);
    paint(canvas, turned, 1, rank, inp, 1);
    $('told').textContent = `V of tile ${k + 1} of ${corners.length}, the one in the middle: a row for each of its ${rank} columns, ${inp} numbers each. Blue is below zero, red above.`;
  } else if (about.kind === 'sound') {
    const [C, W] = about.codes[0].shape, shown = Math.min(C, 24);
    paint(canvas, code.z.subarray(0, shown*W), shown, 1, W, 1);
    canvas.style.height = '11rem'; canvas.style.width = '22rem';
    $('told').textContent = `The first ${shown} of ${C} numbers of ${W} cells: a row is one pattern, a column ${about.codec.cell} samples.`;
  } else {
    const [C, h, w] = about.codes[0].shape, shown = about.codec ? Math.min(C, 16) : C;
    paint(canvas, about.codec ? code.z : code.z.map(v => 2*v - 1), shown, h, w, about.codec ? 4 : Math.min(C, w > h ? 2 : 3));
    $('told').textContent = about.codec ? `The first ${shown} of ${C} numbers of ${h} x ${w} cells, each of ${about.codec.cell} x ${about.codec.cell} samples: a map shows one number everywhere. Blue is below zero, red above.`
      : `This code is the samples themselves, ${h} x ${w} of ${C} numbers; the network fills in what lies between.`;
  }
}

function labels(show) {
  const {about} = show, sound = about.kind === 'sound', turn = about.kind === 'turn', {canvas} = show;
  if (sound || turn) $('play').textContent = show.playing ? 'Stop' : turn ? 'Turn' : 'Play';
  if (turn) return;
  const ratio = canvas.width/canvas.clientWidth || 1;
  const nice = room => { const ten = 10**Math.floor(Math.log10(room)); return [5, 2, 1].map(k => k*ten).find(v => v <= room); };
  const unit = sound ? about.rate : 1, per = show.zoomed/ratio*unit, length = nice(130/per), times = show.zoomed;
  $('bar').style.width = `${Math.max(2, length*per)}px`;
  const said = v => v >= 1e4 ? v.toLocaleString('en') : `${+v.toPrecision(3)}`;
  const far = sound ? (length >= 1 ? `${said(length)} s` : length >= 1e-3 ? `${said(length*1e3)} ms` : `${said(length*1e6)} µs`) : `${said(length)} px`;
  $('zoom').textContent = `${far} · ${sound ? `${said(times)} pixels a sample` : `× ${said(times)}`}`;
  const split = show.compare > 0 && !sound;
  $('sides').hidden = !split;
  $('sides').style.setProperty('--split', `${100*show.split}%`);
  $('right').textContent = ['', 'nearest', 'bicubic'][show.compare];
  $('compare').value = show.compare;
  $('message').hidden = !(show.lost || show.failed);
  if (show.lost) $('message').textContent = 'The graphics card was taken away; waiting for it to come back ...';
}

async function open() {
  const about = filled(JSON.parse($('about').textContent), await inflated($('data').textContent)), canvas = $('stage');
  const sound = about.kind === 'sound', turn = about.kind === 'turn', coded = about.codes.length > 0;
  const images = [...document.querySelectorAll(".still")];
  await Promise.all(images.map(img => img.decode()));
  let painted = 0;
  const changed = () => { if (!show) return; labels(show); if (!$('code').hidden && performance.now() - painted > 150) { painted = performance.now(); paintCode(show); } };
  let show = null;
  show = sound ? new Sound(canvas, about, changed) : new (turn ? Turn : Picture)(canvas, about, images, changed);
  const colour = name => getComputedStyle(canvas).getPropertyValue(name).trim().match(/\w\w/g).map(v => parseInt(v, 16)/255);
  const dress = () => { show.empty = colour('--empty'); show.line = colour('--accent'); show.refresh(); };
  dress();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', dress);
  for (const img of images) img.hidden = true;
  for (const [k, name] of (sound ? [coded ? 'curve' : 'network', 'steps'] : ['network', 'nearest', 'bicubic']).entries()) $('compare').add(new Option(name, k));
  if (sound) { $('word').textContent = 'between'; $('play').hidden = false; document.querySelector('[data-do=one]').hidden = true; }
  if (turn) { $('play').hidden = false; $('play').title = 'turn by itself (space)'; for (const id of ['scale', 'moves', 'beside']) $(id).hidden = true; }
  document.querySelector('nav [data-do=code]').hidden = !coded;
  if (about.codes.length > 1) { $('mixer').hidden = false; $('from').textContent = about.names[0]; $('to').textContent = about.names[1]; }
  const flip = id => { $(id).hidden = !$(id).hidden; if (id === 'code') paintCode(show); }, deeds = {in: () => show.zoom(1.5), out: () => show.zoom(1/1.5),
    fit: () => show.fit(), one: () => show.zoom(1/show.view.s), code: () => flip('code'), help: () => flip('help'), play: () => show.play()};
  document.addEventListener('click', event => { const act = event.target.closest('[data-do]'); if (act) { deeds[act.dataset.do](); show.refresh(event); } });
  $('compare').addEventListener('change', event => { show.setCompare(+event.target.value); canvas.focus(); });
  $('mix').addEventListener('input', event => { show.setMix(+event.target.value); show.refresh(event); changed(); });
  const keys = turn ? [['drag, wheel, arrows', 'turn it'], ['0', 'as it was'], ['space', 'turn by itself'], ['?', 'this list']]
    : [['drag, arrows', 'move'], ['wheel, pinch, + −', 'zoom'], ['double click', 'twice as large'], ['0', 'all of it'],
    ...(sound ? [['space', 'play what is in sight'], ['c', `${coded ? 'curve' : 'network'} or steps`]] : [['1', 'one sample a pixel'], ['c', 'nearest, bicubic beside it'], ['[ ]', 'move the line']]),
    ...(about.codes.length > 1 ? [['m', 'the one, both, the other']] : []), ...(coded ? [['k', 'the code as a picture']] : []), ['?', 'this list']];
  $('keys').append(...keys.flatMap(([key, what]) => ['dt', 'dd'].map((kind, k) => Object.assign(document.createElement(kind), {textContent: k ? what : key}))));
  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || /SELECT|INPUT/.test(event.target.tagName)) return;
    if (event.key === ' ' && event.target.tagName === 'BUTTON') return;
    const also = {k: () => coded && flip('code'), '?': () => flip('help'), Escape: () => { $('code').hidden = $('help').hidden = true; },
      m: () => { if (about.codes.length > 1) { $('mix').value = (Math.round($('mix').value*2)/2 + .5) % 1.5; show.setMix(+$('mix').value); } }}[event.key];
    if (also) also();
    if (also || show.key(event)) { event.preventDefault(); changed(); }
  });
  window.instcomp = show;
  changed();
}
open().catch(error => {                          // the still picture stays
  $('message').hidden = false;
  $('message').textContent = error.message.split('\n')[0];
  $('stage').hidden = true;
  throw error;
});
