// Takes calls until the script is there: window.tagway is a queue, and the script replays it.
(function (w) {
  if (w.tagway) return;
  var t = (w.tagway = function () { t.q.push([].slice.call(arguments)); });
  t.q = [];
  "track page identify group alias reset consent ready on flush".split(" ").forEach(function (n) {
    t[n] = function () { t.apply(w, [n].concat([].slice.call(arguments))); };
  });
})(window);
