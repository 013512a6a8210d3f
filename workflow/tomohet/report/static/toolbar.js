// A group of buttons as one stop of the Tab key: arrow keys, Home and End move within it.

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

// Make `host` such a group. Its buttons may be replaced: the one at the same place keeps the focus.
export function toolbar(host) {
  let at = 0, focused = false;
  const buttons = () => [...host.querySelectorAll("button:not(:disabled)")];
  const stop = () => {
    const all = buttons();
    at = Math.max(0, Math.min(at, all.length - 1));
    all.forEach((button, i) => (button.tabIndex = i === at ? 0 : -1));
    return all;
  };
  host.addEventListener("focusin", ({ target }) => {
    const place = buttons().indexOf(target);
    focused = place >= 0;
    if (focused) at = place;
    stop();
  });
  host.addEventListener("focusout", ({ relatedTarget }) => (focused = focused && relatedTarget === null && !document.hidden));
  document.addEventListener("pointerdown", ({ target }) => (focused = focused && host.contains(target)));
  host.addEventListener("keydown", (event) => {
    const all = buttons(), here = all.indexOf(document.activeElement);
    const next = { Home: 0, End: all.length - 1 }[event.key] ?? (STEPS[event.key] && (here + STEPS[event.key] + all.length) % all.length);
    if (here < 0 || next == null || !all.length) return;
    event.preventDefault();
    all[next].focus();
  });
  new MutationObserver(() => {
    const all = stop();
    if (focused && document.activeElement === document.body) all[at]?.focus({ preventScroll: true });
  }).observe(host, { childList: true, subtree: true });
  stop();
  return host;
}
