// Groups of buttons with one stop of Tab, arrows inside.

const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Makes the buttons inside an element, also those that are added later, one stop of Tab. */
export function rove(root) {
  const buttons = () => [...root.querySelectorAll("button")].filter((button) => !button.hidden);
  const mark = (chosen) => { for (const button of buttons()) button.tabIndex = button === chosen ? 0 : -1; };
  const markOne = () => mark(buttons().find((button) => button.tabIndex === 0) ?? buttons()[0]);
  new MutationObserver(markOne).observe(root, { childList: true, subtree: true, attributes: true, attributeFilter: ["hidden"] });
  root.addEventListener("focusin", (event) => mark(event.target.closest("button")));
  root.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    const all = buttons();
    const columns = all.filter((button) => button.offsetTop === all[0].offsetTop).length;
    const next = all[all.indexOf(event.target.closest("button")) + step[0] + step[1] * columns];
    next?.focus();
    event.preventDefault();
    event.stopPropagation();
  });
  markOne();
}
