// Pictures from all around a thing, made beforehand: dragged, or turning by itself.
'use strict';

class Turn {
  constructor(canvas, about, images, changed) {
    Object.assign(this, {canvas, about, images, changed, n: images.length, at: 0, mix: 0, compare: 0, playing: false});
    new ResizeObserver(() => this.refresh()).observe(canvas);
    this.listen();
  }
  get frame() { return (Math.round(this.at) % this.n + this.n) % this.n; }
  get side() { return Math.min(this.canvas.width, this.canvas.height); }
  set(at) { this.at = at; this.refresh(); }
  refresh() {
    this.settled = false;
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(now => { this.asked = false; this.draw(now); });
  }
  draw(now) {
    const {canvas} = this, ratio = window.devicePixelRatio || 1, pen = canvas.getContext('2d');
    const [w, h] = [canvas.clientWidth, canvas.clientHeight].map(n => Math.max(1, Math.round(n*ratio)));
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, {width: w, height: h});
    if (this.playing) { this.at += this.n*Math.min(.1, (now - this.before)/8000); this.before = now; }      // a turn takes 8 seconds
    const {side} = this;
    pen.clearRect(0, 0, w, h);
    pen.imageSmoothingQuality = 'high';
    pen.drawImage(this.images[this.frame], w - side >> 1, h - side >> 1, side, side);
    this.settled = performance.now();
    this.changed();
    if (this.playing) this.refresh();
  }
  play() { this.playing = !this.playing; this.before = performance.now(); this.refresh(); }
  listen() {
    const {canvas} = this;
    let before = null;
    canvas.addEventListener('pointerdown', event => { canvas.setPointerCapture(event.pointerId); before = event.clientX; this.playing = false; this.refresh(); });
    canvas.addEventListener('pointermove', event => {
      if (before === null) return;
      this.set(this.at - (event.clientX - before)/Math.min(canvas.clientWidth, canvas.clientHeight)*this.n*.6);
      before = event.clientX;
    });
    for (const name of ['pointerup', 'pointercancel']) canvas.addEventListener(name, () => { before = null; });
    canvas.addEventListener('wheel', event => { event.preventDefault(); this.set(this.at + Math.sign(event.deltaX || event.deltaY)); }, {passive: false});
  }
  key(event) {
    const step = event.shiftKey ? this.n/8 : 1, keys = {ArrowLeft: () => this.set(this.frame + step), ArrowRight: () => this.set(this.frame - step),
      0: () => this.set(0), ' ': () => this.play()};
    const act = keys[event.key];
    if (act) act();
    return !!act;
  }
}
